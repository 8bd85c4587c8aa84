"""What pass 1 leaves of an answer, and a batch of it as the arrays that an objective takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unveil.objectives import Feedback, Likelihoods


@dataclass(frozen=True)
class Scored:
    """One answer as gathered from all ranks; nats, summed over scored tokens."""

    example_id: int
    group: tuple[int, int, int]
    """Rank, device batch and dataset row: answers with the same one belong to one prompt."""
    relevance: float
    best: bool
    """Whether it is a thumb up, chosen, or the best of its list."""
    length: int
    policy: float
    reference: float
    margin_error: float
    rank: int | None = None
    score: float | None = None
    policy_draws: tuple[float, ...] = ()
    reference_draws: tuple[float, ...] = ()
    mismatched: float | None = None
    weight: float = 1.0
    """What its prompt counts in the loss and in the statistics of the batch (column `weight`)."""
    lead: float = 0.0
    """Nats by which a best answer has to lead (column `margin`)."""

    @property
    def margin(self) -> float:
        """r = B_policy - B_reference, nats."""
        return self.policy - self.reference


class Batch:
    """Answers in groups `[P, K]`: P prompts, filled up to the longest list."""

    def __init__(self, records: Sequence[Scored]) -> None:
        self.records = records
        self.places: list[tuple[int, int]] = []
        group, prompt, candidate = None, -1, 0
        for record in records:
            if record.group != group:
                group, prompt, candidate = record.group, prompt + 1, 0
            self.places.append((prompt, candidate))
            candidate += 1
        self.shape = (prompt + 1, 1 + max((k for _, k in self.places), default=0))

    def array(self, values: Sequence[float], fill: float = 0.0) -> torch.Tensor:
        """One number per answer as `[P, K]`, float64."""
        found = torch.full(self.shape, fill, dtype=torch.float64)
        if self.places:
            prompts, candidates = zip(*self.places)
            found[list(prompts), list(candidates)] = torch.tensor(values, dtype=torch.float64)
        return found

    def per_answer(self, values_PK: torch.Tensor) -> list:
        """The inverse of `array`: the answers' numbers (or, with a leading axis, their lists of numbers)."""
        prompts, candidates = (list(axis) for axis in zip(*self.places))
        found = values_PK[..., prompts, candidates]
        return (found if found.dim() == 1 else found.T).tolist()

    def likelihoods(self, with_reference: bool = True, per_draw: bool = False, leads: bool = True) -> Likelihoods:
        """What the models say of each answer; with `per_draw`, of each answer in each draw, `[D, P, K]`.

        With `leads` the best answers are worth less by the margin that they have to lead by, so that any objective
        asks for it.
        """
        records = self.records
        if per_draw:
            draws = range(len(records[0].policy_draws))
            policy = torch.stack([self.array([r.policy_draws[k] for r in records]) for k in draws])
            reference = torch.stack([self.array([r.reference_draws[k] for r in records]) for k in draws])
        else:
            policy = self.array([r.policy for r in records])
            reference = self.array([r.reference for r in records])
        lead = self.array([r.lead if r.best else 0.0 for r in records])
        if leads and bool(lead.any()):
            policy = policy - lead
        given = [r for r in records if r.mismatched is not None]
        mismatched = torch.tensor([r.mismatched for r in given], dtype=torch.float64) if given else None
        if mismatched is not None and any(r.weight != 1.0 for r in given):
            counts = torch.tensor([r.weight for r in given], dtype=torch.float64)
            mismatched = (counts * mismatched).sum(dim=0, keepdim=True) / counts.sum().clamp(min=1e-300)
        if per_draw and mismatched is not None:
            mismatched = mismatched.expand(len(policy), -1)  # no draw of theirs is told apart
        return Likelihoods(
            policy, reference if with_reference else None, self.array([r.length for r in records]), mismatched
        )

    def feedback(self) -> Feedback:
        """What the people said."""
        records = self.records
        whole = len(records) == self.shape[0] * self.shape[1]
        ranks = [r.rank for r in records if r.rank is not None]
        scores = [r.score for r in records if r.score is not None]
        return Feedback(
            self.array([r.relevance for r in records]),
            None if whole else self.array([1.0] * len(records)).bool(),
            self.array(ranks, fill=1.0).long() if ranks else None,
            self.array(scores) if scores else None,
            self._weights() if any(r.weight != 1.0 for r in records) else None,
        )

    def _weights(self) -> torch.Tensor:
        """What each prompt counts, `[P]`: its answers all say the same."""
        return self.array([r.weight for r in self.records])[:, 0]

    def gaps(self, values: Sequence[float]) -> torch.Tensor:
        """Mean of the best answers minus mean of the others, prompt by prompt; prompts with both kinds only."""
        best, value = self.array([r.best for r in self.records]), self.array(values)
        other = self.array([not r.best for r in self.records])
        both = (best.sum(1) > 0) & (other.sum(1) > 0)
        gap = (best * value).sum(1) / best.sum(1).clamp(min=1) - (other * value).sum(1) / other.sum(1).clamp(min=1)
        return gap[both]
