"""The pointwise shape: every answer is judged alone, so thumbs are enough and pairs or lists serve too.

    L = w_up mean_(liked) link(+(r - shift))  +  w_down mean_(disliked) link(-(r - shift))

For one thumb this is one term, for a pair the sum of both. Over a batch, each term is a mean over all prompts, so that
classes count by their share (KTO, APO), or with `class_means` over the prompts that have such answers: the sum of two
expectations that DDO, BCO and ASFT are published as, whatever the share of each class.

The gap between ELBO and likelihood does *not* cancel here as it does in a difference: a systematic gap moves every r,
and a shift repairs it.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from unveil.objectives.algebra import Algebra
from unveil.objectives.interface import Feedback, Likelihoods, Reward, Shape, neutral
from unveil.objectives.links import Link, Logistic


@dataclass(frozen=True)
class Pointwise(Algebra):
    """See the module.

    weights:
        w of liked (relevance above 0) and of disliked answers.
    directions:
        +1 raises the reward of the class, -1 lowers it.
    shift:
        in units of the reward.
    class_means:
        the loss of a batch is w_up times the mean over prompts with liked answers plus w_down times the mean over those
        with disliked ones; a batch without one of them has one term.
    """

    reward: Reward
    link: Link = field(default_factory=Logistic)
    weights: tuple[float, float] = (1.0, 1.0)
    directions: tuple[int, int] = (1, -1)
    shift: float = 0.0
    class_means: bool = False
    shape: Shape = "unpaired"

    splits_at_zero = True

    @property
    def needs_reference(self) -> bool:
        return self.reward.needs_reference

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        likelihoods, feedback = neutral(likelihoods, feedback)
        reward = self.reward(likelihoods) - self.shift
        real, liked = feedback.real(), feedback.relevance > 0
        total = reward.new_zeros(reward.shape[:-1])
        for members, weight, direction in zip((real & liked, real & ~liked), self.weights, self.directions):
            whole = class_scale(members, feedback) if self.class_means else 1.0
            total = total + weight * whole * mean_over(members, self.link(direction * reward))
        return total


def class_scale(members: Tensor, feedback: Feedback) -> Tensor:
    """What turns a mean over all prompts into one over the prompts that have members, by their weights; a scalar."""
    counts = feedback.counts()
    having = (counts * members.any(dim=-1)).sum()
    return torch.where(having > 0, counts.sum() / having.clamp(min=1e-30), torch.ones_like(having))


def weighted_mean(weights: Tensor, values: Tensor) -> Tensor:
    """`sum w v / sum w` over everything, a scalar; 0 where nothing counts."""
    weights = weights.to(values.dtype)
    total = weights.sum()
    return (weights * values).sum() / torch.where(total > 0, total, torch.ones_like(total))


def mean_over(members: Tensor, values: Tensor) -> Tensor:
    """Mean of the values of the members along the last axis; 0 where there is none. `[..., K]` -> `[...]`."""
    count = members.sum(dim=-1).clamp(min=1)
    return (values * members.to(values.dtype)).sum(dim=-1) / count
