"""Supervised fine-tuning as an objective: minus the ELBO per token of what was liked (LLaDA, arXiv 2502.09992).

Added to a preference objective with a small factor it holds up the likelihood of liked answers, which a centred
preference loss does not see.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unveil.objectives.algebra import Algebra
from unveil.objectives.interface import Feedback, Likelihoods, Shape, neutral
from unveil.objectives.pointwise import class_scale, mean_over
from unveil.objectives.rewards import LogLikelihood


@dataclass(frozen=True)
class SFT(Algebra):
    """`-B_theta / L` of liked answers (their mean, if a prompt has several), 0 without one; `[...]`, nats per token.

    Liked are thumbs up, and of several candidates the best ones: grades have no zero. With `class_means` the loss of a
    batch is the mean over the prompts with a liked answer, else over all.
    """

    class_means: bool = False
    shape: Shape = "unpaired"

    needs_reference = False
    reward = LogLikelihood(per_token=True)

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        likelihoods, feedback = neutral(likelihoods, feedback)
        liked = _liked(feedback)
        losses = mean_over(liked, -self.reward(likelihoods))
        return losses * class_scale(liked, feedback) if self.class_means else losses


def _liked(feedback: Feedback) -> Tensor:
    """Boolean `[..., K]`: relevance above 0 where a prompt has one answer, else the largest of a list that differs."""
    real, relevance = feedback.real(), feedback.relevance
    best = torch.where(real, relevance, -torch.inf).amax(dim=-1, keepdim=True)
    worst = torch.where(real, relevance, torch.inf).amin(dim=-1, keepdim=True)
    single = real.sum(dim=-1, keepdim=True) == 1
    return real & torch.where(single, relevance > 0, (relevance == best) & ((best > worst) | (best > 0)))


def sft() -> SFT:
    """`-B_theta / L` of liked answers; scale it: `kto() + 0.05 * sft()`.

    LLaDA's fine-tuning loss per token (arXiv 2502.09992), the mean over answers and not over tokens. No parameters.

    Noise: linear in B, so the estimate and its gradient are unbiased whatever the number of draws.
    """
    return SFT()
