"""The listwise shapes: the candidates of a prompt as one distribution or one ranking.

    Listwise         KL(q || softmax(r))                                            ADPO
    PlackettLuce     sum_i [lse over i and all worse than i of r  -  r_i]           ranked lists
    InContext        (1/N) sum_i w_i softplus(lse_(j != i) (r_j - r_i) - log(N-1))  IRPO
    NoiseContrast    sum_i q_i softplus(-r_i) + (1/N) sum_i softplus(r_i)           NCA

Places filled up enter every log-sum-exp as -1e30. A constant added to all rewards of a prompt changes none of the
first three; NoiseContrast fixes the level of r.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from unveil.errors import UserError
from unveil.objectives.algebra import Algebra
from unveil.objectives.interface import Feedback, Likelihoods, Reward, Shape, neutral
from unveil.objectives.links import softplus
from unveil.objectives.pairs import differences, gains
from unveil.objectives.pointwise import mean_over
from unveil.objectives.position_weights import PositionWeights

NEVER = -1e30
"""log-weight of a place that does not exist; finite, so that gradients of empty lists are 0 and not NaN."""


class ListTarget(Protocol):
    def __call__(self, feedback: Feedback) -> Tensor:
        """q, a distribution over the real candidates, `[..., K]`; 0 on places filled up."""
        ...


@dataclass(frozen=True)
class Softmax:
    """q = softmax(relevance / temperature); `standardise` first centres it and divides by the group's deviation."""

    temperature: float = 1.0
    standardise: bool = False

    def __call__(self, feedback: Feedback) -> Tensor:
        relevance, real = feedback.relevance, feedback.real()
        if self.standardise:
            centred = relevance - mean_over(real, relevance)[..., None]
            deviation = mean_over(real, centred.square()).sqrt()[..., None]
            relevance = torch.where(deviation > 0, centred / deviation, torch.zeros_like(centred))
        q = torch.softmax((relevance / self.temperature).masked_fill(~real, NEVER), dim=-1)
        return q * real


@dataclass(frozen=True)
class OneHot:
    """q = 1 on the best candidate; equal bests share."""

    def __call__(self, feedback: Feedback) -> Tensor:
        relevance, real = feedback.relevance, feedback.real()
        highest = relevance.masked_fill(~real, -math.inf).amax(dim=-1, keepdim=True)
        best = (real & (relevance == highest)).to(relevance.dtype)
        return best / best.sum(dim=-1, keepdim=True).clamp(min=1)


@dataclass(frozen=True)
class Listwise(Algebra):
    """KL(q || softmax(r)): gradient weights (p_i - q_i) dr/dB, adding up to 0; the Hessian is the trust region."""

    reward: Reward
    target: ListTarget = Softmax()
    shape: Shape = "lists"

    @property
    def needs_reference(self) -> bool:
        return self.reward.needs_reference

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        likelihoods, feedback = neutral(likelihoods, feedback)
        q = self.target(feedback)
        log_p = torch.log_softmax(self.reward(likelihoods).masked_fill(~feedback.real(), NEVER), dim=-1)
        return (torch.xlogy(q, q) - q * log_p).sum(dim=-1)


@dataclass(frozen=True)
class PlackettLuce(Algebra):
    """The likelihood of the ranking by relevance; ties are not ordered: each meets only what is strictly worse.

    Without ties it is `-sum_k log softmax over ranks >= k`; with one liked answer the softmax over all.
    """

    reward: Reward
    shape: Shape = "lists"

    @property
    def needs_reference(self) -> bool:
        return self.reward.needs_reference

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        likelihoods, feedback = neutral(likelihoods, feedback)
        reward, real = self.reward(likelihoods), feedback.real()
        worse = (differences(feedback.relevance) > 0) & real[..., None, :]
        # lse over i and its worse of (r_j - r_i), without i itself: softplus puts its 1 back.
        others = torch.logsumexp((-differences(reward)).masked_fill(~worse, NEVER), dim=-1)
        return (softplus(others) * real).sum(dim=-1)


@dataclass(frozen=True)
class InContext(Algebra):
    """IRPO: items of one shown ranking, weighted w_i = (2^relevance - 1) / log2(1 + displayed rank)."""

    reward: Reward
    normalise: bool = True
    shape: Shape = "lists"
    position_weights: PositionWeights | None = None

    @property
    def needs_reference(self) -> bool:
        return self.reward.needs_reference

    @property
    def columns(self) -> tuple[str, ...]:
        return ("relevance", "rank", *super().columns[1:])

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        likelihoods, feedback = neutral(likelihoods, feedback)
        if feedback.rank is None:
            raise UserError("--objective irpo: needs the position at which every item was shown; add the column `rank`")
        reward, real = self.reward(likelihoods), feedback.real()
        itself = torch.eye(reward.shape[-1], dtype=torch.bool, device=reward.device)
        absent = itself | ~real[..., None, :]
        others = torch.logsumexp((-differences(reward)).masked_fill(absent, NEVER), dim=-1)
        if self.normalise:
            others = others - torch.log((real.sum(dim=-1, keepdim=True) - 1).clamp(min=1).to(reward.dtype))
        return mean_over(real, gains(feedback.relevance) / torch.log2(1 + feedback.rank) * softplus(others))


@dataclass(frozen=True)
class NoiseContrast(Algebra):
    """NCA: raises the good against noise that is drawn from all candidates alike, and so fixes the level of r."""

    reward: Reward
    target: ListTarget = OneHot()
    shape: Shape = "pairs"

    @property
    def needs_reference(self) -> bool:
        return self.reward.needs_reference

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        likelihoods, feedback = neutral(likelihoods, feedback)
        reward = self.reward(likelihoods)
        q = self.target(feedback)
        return (q * softplus(-reward)).sum(dim=-1) + mean_over(feedback.real(), softplus(reward))
