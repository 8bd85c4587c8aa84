"""ELBO-KTO (arXiv 2510.23658): Kahneman-Tversky optimisation on ELBO margins, from unpaired thumbs.

    r_i  = B_theta(y_i | x_i) - B_ref(y_i | x_i)          same draws in both terms, nats
    b0   = stop_gradient(mean_j r_j)                      over the whole optimizer batch
    u_i  = beta (r_i - b0)
    loss = mean_i lambda_i (1 - sigmoid(s_i u_i))         s_i = +1 desirable, -1 undesirable

At theta = reference every r is 0, the loss is mean(lambda) / 2 and every slope has the size lambda beta / 4.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from unveil.errors import UserError
from unveil.objectives.interface import Algebra, Feedback, Likelihoods

Baseline = Literal["batch", "zero", "kl"]


@dataclass(frozen=True)
class KTO(Algebra):
    """See the module; `kto()` is the way to make one."""

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    baseline: Baseline = "batch"

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise UserError(f"--beta {self.beta}: must be above 0; it multiplies margins in nats")
        if min(self.desirable_weight, self.undesirable_weight) < 0:
            raise UserError("--desirable_weight and --undesirable_weight: must not be negative")
        if self.baseline not in get_args(Baseline):
            raise UserError(f"--baseline {self.baseline}: unknown; choose one of {', '.join(get_args(Baseline))}")

    needs_reference = True

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        """Loss per prompt `[...]`, the mean over its candidates that are not masked."""
        margins = likelihoods.margins()
        mask = torch.ones_like(margins) if feedback.mask is None else feedback.mask.to(margins.dtype)
        desirable = feedback.relevance > 0
        sign = torch.where(desirable, 1.0, -1.0).to(margins.dtype)
        weight = torch.where(desirable, self.desirable_weight, self.undesirable_weight).to(margins.dtype)
        shifted = self.beta * (margins - self.shift(margins, mask))
        losses = weight * torch.sigmoid(-sign * shifted)
        return (losses * mask).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)

    def shift(self, margins: Tensor, mask: Tensor | None = None) -> Tensor:
        """The baseline b0, nats: detached, one number for the whole optimizer batch.

        `batch` is the mean margin; `kl` the same but never below 0, so that the loss stops rewarding a
        fall of both classes; `zero` is 0.
        """
        if self.baseline == "zero":
            return margins.new_zeros(())
        mask = torch.ones_like(margins) if mask is None else mask.to(margins.dtype)
        if mask.sum() < 2:
            raise UserError(
                f"--baseline {self.baseline}: a batch of one is its own mean, so every margin would be 0; raise "
                "--per_device_train_batch_size or --gradient_accumulation_steps, or give --baseline zero"
            )
        mean = (margins.detach() * mask).sum() / mask.sum()
        return mean.clamp(min=0) if self.baseline == "kl" else mean


def kto(
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    baseline: Baseline = "batch",
) -> KTO:
    """ELBO-KTO with the paper's defaults.

    Args:
        beta: inverse temperature, per nat of summed margin (paper: 0.1).
        desirable_weight: lambda of thumbs up.
        undesirable_weight: lambda of thumbs down.
        baseline: `batch` (the paper), `zero`, or `kl` (a remedy for likelihood displacement, not in the
            paper).

    Raises:
        UserError: a value out of range; when called, a batch of one with a batch baseline.
    """
    return KTO(beta, desirable_weight, undesirable_weight, baseline)
