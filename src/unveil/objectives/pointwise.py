"""The pointwise shape: every answer is judged alone, so thumbs are enough and pairs or lists serve too.

    L = w_up mean_(liked) link(+(r - shift))  +  w_down mean_(disliked) link(-(r - shift))

For one thumb this is one term, for a pair the sum of both. The gap between ELBO and likelihood does *not* cancel
here as it does in a difference: a systematic gap moves every r, and a shift repairs it.
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
    """

    reward: Reward
    link: Link = field(default_factory=Logistic)
    weights: tuple[float, float] = (1.0, 1.0)
    directions: tuple[int, int] = (1, -1)
    shift: float = 0.0
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
            total = total + weight * mean_over(members, self.link(direction * reward))
        return total


def weighted_mean(weights: Tensor, values: Tensor) -> Tensor:
    """`sum w v / sum w` over everything, a scalar; 0 where nothing counts."""
    weights = weights.to(values.dtype)
    total = weights.sum()
    return (weights * values).sum() / torch.where(total > 0, total, torch.ones_like(total))


def mean_over(members: Tensor, values: Tensor) -> Tensor:
    """Mean of the values of the members along the last axis; 0 where there is none. `[..., K]` -> `[...]`."""
    count = members.sum(dim=-1).clamp(min=1)
    return (values * members.to(values.dtype)).sum(dim=-1) / count
