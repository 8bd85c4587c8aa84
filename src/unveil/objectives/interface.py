"""What every objective is: a pure function of surrogate log-likelihoods and feedback.

The last axis holds the candidates of one prompt: K = 1 for thumbs, 2 for pairs, more for lists. An objective sees the
whole optimizer batch at once (all micro-batches, all ranks) and returns one loss per prompt; the trainer takes the
mean. It knows nothing of models, tokens or devices, so the two-pass trainer can ask autograd for one weight per
response and back-propagate the rest in any order.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


class Likelihoods(NamedTuple):
    """What the models say, nats, summed over scored tokens; shapes `[..., K]`."""

    policy: Tensor
    """Surrogate of log pi_theta(y | x): the only array with a gradient."""
    reference: Tensor | None = None
    """Surrogate under the reference, on the same draws; None for reference-free objectives."""
    length: Tensor | None = None
    """Number of scored tokens, for objectives that work per token."""

    def margins(self) -> Tensor:
        """r = B_policy - B_reference, nats, `[..., K]`."""
        if self.reference is None:
            raise ValueError("this objective compares the policy with a reference; none was given")
        return self.policy - self.reference.detach()


class Feedback(NamedTuple):
    """What the person said; shapes `[..., K]`."""

    relevance: Tensor
    """Larger is better; 1 and 0 are thumbs up and down, or chosen and rejected."""
    mask: Tensor | None = None
    """False where a list is filled up; such places change neither value nor gradient."""


@runtime_checkable
class Objective(Protocol):
    """A frozen dataclass that is called; hashable and without hidden state."""

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        """Loss per prompt, shape `[...]`."""
        ...

    @property
    def needs_reference(self) -> bool:
        """Whether `likelihoods.reference` must be given."""
        ...


class Algebra:
    """Objectives add and scale: `kto() + 0.05 * sft()`."""

    def __add__(self, other: "Objective") -> "WeightedSum":
        return WeightedSum(((1.0, self), (1.0, other)))  # type: ignore[arg-type]

    def __rmul__(self, factor: float) -> "WeightedSum":
        return WeightedSum(((float(factor), self),))  # type: ignore[arg-type]


@dataclass(frozen=True)
class WeightedSum(Algebra):
    """`sum_j factor_j objective_j`, prompt by prompt."""

    terms: tuple[tuple[float, Objective], ...]

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        losses = [factor * term(likelihoods, feedback) for factor, term in self.terms]
        return torch.stack(losses).sum(dim=0)

    @property
    def needs_reference(self) -> bool:
        return any(term.needs_reference for _, term in self.terms)


def total_loss(objective: Objective, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
    """Mean over prompts of the objective: the number that training minimises."""
    return objective(likelihoods, feedback).mean()


def weights(objective: Objective, likelihoods: Likelihoods, feedback: Feedback) -> tuple[Tensor, Tensor]:
    """Loss and its gradient with respect to every policy surrogate.

    Returns:
        the mean loss (scalar) and `g = d loss / d likelihoods.policy`, `[..., K]`. Everything the model sees of
        the objective is `sum g * grad B_theta`; g < 0 means that a step raises that surrogate.
    """
    policy = likelihoods.policy.detach().requires_grad_(True)
    with torch.enable_grad():
        loss = total_loss(objective, likelihoods._replace(policy=policy), feedback)
        (gradient,) = torch.autograd.grad(loss, policy, allow_unused=True)
    return loss.detach(), torch.zeros_like(policy) if gradient is None else gradient
