"""ELBO-KTO (arXiv 2510.23658): Kahneman-Tversky optimisation on ELBO margins, from unpaired thumbs.

    r_i  = B_theta(y_i | x_i) - B_ref(y_i | x_i)          same draws in both terms, nats
    b0   = stop_gradient(mean_j r_j)                      over the whole optimizer batch, by the weights of its rows
    u_i  = beta (r_i - b0)
    loss = mean_i lambda_i (1 - sigma(s_i u_i))           s_i = +1 desirable, -1 undesirable

At theta = reference every r is 0, the loss is mean(lambda) / 2 and every slope has the size lambda beta / 4.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from unveil.errors import UserError
from unveil.objectives.algebra import Algebra
from unveil.objectives.interface import Feedback, Likelihoods, Shape, neutral
from unveil.objectives.pointwise import mean_over, weighted_mean
from unveil.objectives.rewards import LogRatio

Baseline = Literal["batch", "zero", "kl", "trl_kl"]


@dataclass(frozen=True)
class KTO(Algebra):
    """See the module; `kto()` is the way to make one."""

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    baseline: Baseline = "batch"
    shape: Shape = "unpaired"

    splits_at_zero = True
    needs_reference = True

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise UserError(f"--beta {self.beta}: must be above 0; it multiplies margins in nats")
        if min(self.desirable_weight, self.undesirable_weight) < 0:
            raise UserError("--desirable_weight and --undesirable_weight: must not be negative")
        if self.baseline not in get_args(Baseline):
            raise UserError(f"--baseline {self.baseline}: unknown; choose one of {', '.join(get_args(Baseline))}")

    @property
    def reward(self) -> LogRatio:
        return LogRatio(self.beta)

    @property
    def averages_margins(self) -> bool:
        """Whether the baseline is a mean over the batch, which one answer cannot give."""
        return self.baseline in ("batch", "kl")

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        """Loss per prompt `[...]`, the mean over its candidates that are not masked."""
        likelihoods, feedback = neutral(likelihoods, feedback)
        margins, real, desirable = likelihoods.margins(), feedback.real(), feedback.relevance > 0
        sign = torch.where(desirable, 1.0, -1.0).to(margins.dtype)
        weight = torch.where(desirable, self.desirable_weight, self.undesirable_weight).to(margins.dtype)
        shifted = self.beta * (margins - self.shift(margins, real, likelihoods.mismatched, feedback.weight))
        return mean_over(real, weight * torch.sigmoid(-sign * shifted))

    def shift(
        self,
        margins: Tensor,
        mask: Tensor | None = None,
        mismatched: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The baseline b0, nats: detached, one number for the whole optimizer batch.

        `batch` is the mean margin; `kl` the same but never below 0, so that the loss stops rewarding a
        fall of both classes; `trl_kl` the mean of `mismatched`, never below 0; `zero` is 0. `weight` is what each
        prompt counts in the mean of margins, `[...]`.
        """
        if self.baseline == "zero":
            return margins.new_zeros(())
        if self.baseline == "trl_kl":
            if mismatched is None:
                raise UserError(
                    "--baseline trl_kl: needs the margins of answers under other prompts, which were not computed; "
                    "give --baseline kl, which needs none"
                )
            return mismatched.detach().to(margins.dtype).mean().clamp(min=0)
        mask = torch.ones_like(margins) if mask is None else mask.to(margins.dtype)
        counts = mask if weight is None else mask * weight[..., None].to(margins.dtype)
        if mask.sum() < 2:
            raise UserError(
                f"--baseline {self.baseline}: a batch of one is its own mean, so every margin would be 0; raise "
                "--per_device_train_batch_size or --gradient_accumulation_steps, or give --baseline zero"
            )
        mean = weighted_mean(counts, margins.detach())
        return mean.clamp(min=0) if self.baseline == "kl" else mean


def kto(
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    baseline: Baseline = "batch",
) -> KTO:
    """ELBO-KTO with the paper's defaults.

    `L = lambda (1 - sigma(s beta (u - b0)))`, arXiv 2510.23658; beta 0.1 and lambda 1 are the paper's.

    Noise: the sigmoid saturates, so noise biases it either way. Under `batch` the baseline takes away the noise that
    all margins share; under `trl_kl` it brings noise of its own, with the error of a mean over the batch.

    Args:
        beta: inverse temperature, per nat of summed margin (paper: 0.1).
        desirable_weight: lambda of thumbs up.
        undesirable_weight: lambda of thumbs down.
        baseline: `batch` (the paper), `zero`, `kl` (a remedy for likelihood displacement, not in the paper), or
            `trl_kl` (KTO of arXiv 2402.01306 as in TRL: the clamped mean margin of answers put under other prompts,
            given as `Likelihoods.mismatched`).

    Raises:
        UserError: a value out of range; when called, a batch of one with a batch baseline, or `trl_kl` without
            mismatched margins.
    """
    return KTO(beta, desirable_weight, undesirable_weight, baseline)
