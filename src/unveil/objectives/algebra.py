"""Objectives add and scale: `dpo() + 0.05 * sft()` is an objective."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unveil.errors import UserError
from unveil.objectives.interface import Feedback, Likelihoods, Objective, Reward, Shape, State
from unveil.objectives.position_weights import PositionWeights


class Algebra:
    """Sums and multiples, and the answers of an objective without state: the base of all objectives."""

    position_weights: PositionWeights | None = None
    splits_at_zero = False

    @property
    def columns(self) -> tuple[str, ...]:
        """`relevance`, and the weights of tokens where these are the data's to give."""
        wanted = self.position_weights
        return ("relevance",) if wanted is None or wanted.kind == "ld" else ("relevance", "position_weights")

    @property
    def per_draw(self) -> bool:
        return False

    def __add__(self, other: Objective) -> "WeightedSum":
        return WeightedSum((*_terms(self), *_terms(other)))

    def __rmul__(self, factor: float) -> "WeightedSum":
        return WeightedSum(tuple((float(factor) * inner, term) for inner, term in _terms(self)))

    def initial_state(self) -> State:
        return ()

    def update(self, state: State, likelihoods: Likelihoods, feedback: Feedback) -> State:
        return state

    def given(self, state: State) -> Objective:
        return self  # type: ignore[return-value]


def _terms(objective: object) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, WeightedSum) else ((1.0, objective),)  # type: ignore[return-value]


@dataclass(frozen=True)
class WeightedSum(Algebra):
    """`sum_j factor_j objective_j`, prompt by prompt.

    Terms that want every draw and terms that want their mean may be mixed: given an axis of draws, the latter see
    the mean.
    """

    terms: tuple[tuple[float, Objective], ...]

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        mean = likelihoods.mean_over_draws() if self.per_draw else likelihoods
        losses = [factor * term(likelihoods if term.per_draw else mean, feedback) for factor, term in self.terms]
        return torch.stack(losses).sum(dim=0)

    @property
    def needs_reference(self) -> bool:
        return any(term.needs_reference for _, term in self.terms)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for _, term in self.terms for name in term.columns))

    @property
    def splits_at_zero(self) -> bool:  # type: ignore[override]
        return any(term.splits_at_zero for _, term in self.terms)

    @property
    def per_draw(self) -> bool:
        return any(term.per_draw for _, term in self.terms)

    @property
    def shape(self) -> Shape:
        """The most demanding data of any term."""
        order: tuple[Shape, ...] = ("unpaired", "pairs", "lists")
        return order[max(order.index(term.shape) for _, term in self.terms)]

    @property
    def reward(self) -> Reward:
        return self.terms[0][1].reward

    @property
    def position_weights(self) -> PositionWeights | None:  # type: ignore[override]
        wanted = {term.position_weights for _, term in self.terms} - {None}
        if len(wanted) > 1:
            raise UserError("--objective: two terms of the sum want different position weights; keep one of them")
        return wanted.pop() if wanted else None

    def initial_state(self) -> State:
        return sum((term.initial_state() for _, term in self.terms), ())

    def update(self, state: State, likelihoods: Likelihoods, feedback: Feedback) -> State:
        mean = likelihoods.mean_over_draws() if self.per_draw else likelihoods
        updated = [
            term.update(part, likelihoods if term.per_draw else mean, feedback)
            for (_, term), part in zip(self.terms, self._parts(state))
        ]
        return sum(updated, ())

    def given(self, state: State) -> Objective:
        return replace(
            self, terms=tuple((f, term.given(part)) for (f, term), part in zip(self.terms, self._parts(state)))
        )

    def _parts(self, state: State) -> list[State]:
        parts, start = [], 0
        for _, term in self.terms:
            end = start + len(term.initial_state())
            parts.append(state[start:end])
            start = end
        return parts
