"""The pairwise shape: one formula for DPO and its family, over the pairs of a prompt's candidates.

    L = sum_(i,j) w_ij link(z_ij, p_ij),     z_ij = strength_ij (r_i - r'_j) - margin,     i better than j

With the logistic link and reward r = beta s(u) the gradient weights of a pair are
g_i = -w beta s'(u_i) (sigma(-z) - (1 - p)) and g_j = +w beta' s'(u_j) (sigma(-z) - (1 - p)).

A constant added to all surrogates of a prompt changes nothing, and the weights of a prompt add up to 0, wherever both
rewards are the same multiple of u (or of B).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from unveil.objectives.algebra import Algebra
from unveil.objectives.interface import Feedback, Likelihoods, Reward, Shape, neutral
from unveil.objectives.links import Hard, Link, Logistic, Target
from unveil.objectives.pairs import SCORED, Pairs, PairSlot
from unveil.objectives.position_weights import PositionWeights


@dataclass(frozen=True)
class Pairwise(Algebra):
    """See the module. A prompt without a pair (K = 1, all tied, all filled up) has loss 0.

    reward:
        r of the better candidate, and of the worse one too unless `rejected_reward` is given.
    pairs, weight:
        w is their product; `weight` sees feedback and detached rewards.
    strength:
        a detached factor on the difference of rewards; None is 1.
    target:
        p, the believed probability that the label is right.
    """

    reward: Reward
    link: Link = field(default_factory=Logistic)
    rejected_reward: Reward | None = None
    pairs: Pairs = field(default_factory=Pairs)
    weight: PairSlot | None = None
    strength: PairSlot | None = None
    target: Target = field(default_factory=Hard)
    margin: float = 0.0
    shape: Shape = "pairs"
    position_weights: PositionWeights | None = None

    @property
    def needs_reference(self) -> bool:
        return self.reward.needs_reference

    @property
    def columns(self) -> tuple[str, ...]:
        scored = isinstance(self.weight, SCORED) or isinstance(self.strength, SCORED)
        given = super().columns
        return (*given[:1], "score", *given[1:]) if scored else given

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        likelihoods, feedback = neutral(likelihoods, feedback)
        better = self.reward(likelihoods)
        worse = better if self.rejected_reward is None else self.rejected_reward(likelihoods)
        z = better[..., :, None] - worse[..., None, :]
        counts = self.pairs(feedback)
        if self.weight is not None:
            counts = counts * self.weight(feedback, better.detach())
        if self.strength is not None:
            z = z * self.strength(feedback, better.detach())
        # Pairs that do not count never meet the link, so that no infinity of theirs can meet their zero weight.
        z = torch.where(counts != 0, z - self.margin, torch.zeros_like(z))
        return (counts * self.link(z, self.target(feedback))).sum(dim=(-2, -1))
