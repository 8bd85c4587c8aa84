"""f-DPO's scores: s(u) = f'(e^u) for a divergence f, u = B_theta - B_ref in nats (arXiv 2309.16240).

| divergence | s(u) | s'(u) |
|---|---|---|
| reverse KL | u | 1 |
| Jensen-Shannon | log 2 - softplus(-u) | sigma(-u) |
| alpha, 0 < alpha < 1 | (1 - e^(-alpha u)) / alpha | e^(-alpha u) |
| forward KL | 1 - e^(-u) | e^(-u) |

Constants cancel in a difference of scores. alpha -> 0 is reverse KL and alpha = 1 forward KL. TRL writes the same
family with the exponent alpha_TRL - 1: alpha_TRL = 1 - alpha.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

EXPONENT_LIMIT = 20.0
"""Beyond this exponent e^x goes on as its tangent: a slope of 5e8, never infinite and never zero."""


def guarded_exp(exponent: Tensor) -> Tensor:
    """e^x up to the limit and its tangent beyond; finite in float32 wherever |x| <= 1e29."""
    return exponent.clamp(max=EXPONENT_LIMIT).exp() * (1 + torch.relu(exponent - EXPONENT_LIMIT))


Divergence = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ReverseKL:
    """s(u) = u: plain DPO."""

    def __call__(self, margin: Tensor) -> Tensor:
        return margin


@dataclass(frozen=True)
class JensenShannon:
    """s(u) = log 2 + log sigma(u): bounded above, so a risen answer stops counting; sigma(-u) damps noise."""

    def __call__(self, margin: Tensor) -> Tensor:
        return math.log(2) + logsigmoid(margin)


@dataclass(frozen=True)
class Alpha:
    """s(u) = (1 - e^(-alpha u)) / alpha: almost all weight on the answer whose likelihood fell.

    Gaussian noise of variance V in u multiplies the mean exponential by e^(alpha^2 V / 2).
    """

    alpha: float

    def __call__(self, margin: Tensor) -> Tensor:
        return (1 - guarded_exp(-self.alpha * margin)) / self.alpha


def forward_kl() -> Alpha:
    """s(u) = 1 - e^(-u), the family's end at alpha = 1: the first thing that noise breaks."""
    return Alpha(1.0)
