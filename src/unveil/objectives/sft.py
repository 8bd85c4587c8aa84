"""Supervised fine-tuning as an objective: minus the ELBO per token of what was liked (LLaDA, arXiv 2502.09992).

Added to a preference objective with a small factor it holds up the likelihood of liked answers, which a centred
preference loss does not see.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unveil.objectives.interface import Algebra, Feedback, Likelihoods


@dataclass(frozen=True)
class SFT(Algebra):
    """`-B_theta / L` of desirable answers, 0 for the others; `[...]`, nats per token."""

    needs_reference = False

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        if likelihoods.length is None:
            raise ValueError("the SFT term is per token and needs the number of scored tokens")
        liked = (feedback.relevance > 0).to(likelihoods.policy.dtype)
        if feedback.mask is not None:
            liked = liked * feedback.mask.to(liked.dtype)
        per_token = -likelihoods.policy / likelihoods.length.clamp(min=1)
        per_token = torch.where(liked > 0, per_token, torch.zeros_like(per_token))
        return per_token.sum(dim=-1) / liked.sum(dim=-1).clamp(min=1)


def sft() -> SFT:
    """The SFT term; scale it: `kto() + 0.05 * sft()`."""
    return SFT()
