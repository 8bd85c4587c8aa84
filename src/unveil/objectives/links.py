"""From the argument z of one comparison to its loss: the `link` slot, and the `target` p that it is compared with.

A link is called with z (the reward of the better minus the worse, or one signed reward) and with p, the believed
probability that the better one is better. p = 1 is a plain label; rDPO's p is above 1.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from unveil.objectives.interface import Feedback


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), exact in every dtype (torch's own gives up precision above 20)."""
    return -logsigmoid(-x)


class Link(Protocol):
    def __call__(self, z: Tensor, p: Tensor | float = 1.0) -> Tensor: ...


@dataclass(frozen=True)
class Logistic:
    """p softplus(-z) + (1 - p) softplus(z), written softplus(-z) + (1 - p) z, which is stable for every p."""

    def __call__(self, z: Tensor, p: Tensor | float = 1.0) -> Tensor:
        return softplus(-z) + (1 - p) * z


@dataclass(frozen=True)
class Hinge:
    """max(0, 1 - z)."""

    def __call__(self, z: Tensor, p: Tensor | float = 1.0) -> Tensor:
        return p * torch.relu(1 - z) + (1 - p) * torch.relu(1 + z)


@dataclass(frozen=True)
class Squared:
    """(z - centre)^2: noise of variance V in z adds V to it and a drive to shrink V; the jackknife removes both."""

    centre: float

    def __call__(self, z: Tensor, p: Tensor | float = 1.0) -> Tensor:
        return p * (z - self.centre).square() + (1 - p) * (z + self.centre).square()


@dataclass(frozen=True)
class Sigmoid:
    """1 - sigma(z): bounded, so an outlier loses its weight; biased either way by noise."""

    def __call__(self, z: Tensor, p: Tensor | float = 1.0) -> Tensor:
        return p * torch.sigmoid(-z) + (1 - p) * torch.sigmoid(z)


@dataclass(frozen=True)
class Exo:
    """KL(model || target) of one choice out of two: q log(q / p) + (1 - q) log((1 - q) / (1 - p)), q = sigma(z)."""

    def __call__(self, z: Tensor, p: Tensor | float = 1.0) -> Tensor:
        p = torch.as_tensor(p, dtype=z.dtype, device=z.device)
        better = torch.sigmoid(z) * (logsigmoid(z) - torch.log(p))
        return better + torch.sigmoid(-z) * (logsigmoid(-z) - torch.log1p(-p))


@dataclass(frozen=True)
class DiscoPop:
    """(1 - m) softplus(-z) + m e^(-z), m = sigma(z / tau).

    m e^(-z) is computed as one exponential, whose exponent is at most 0 for tau <= 1.
    """

    tau: float

    def __call__(self, z: Tensor, p: Tensor | float = 1.0) -> Tensor:
        return p * self._loss(z) + (1 - p) * self._loss(-z)

    def _loss(self, z: Tensor) -> Tensor:
        return torch.sigmoid(-z / self.tau) * softplus(-z) + torch.exp(logsigmoid(z / self.tau) - z)


class Target(Protocol):
    def __call__(self, feedback: Feedback) -> Tensor | float:
        """p for every ordered pair, `[..., K, K]`, or one number."""
        ...


@dataclass(frozen=True)
class Hard:
    """p = 1: the label is right."""

    def __call__(self, feedback: Feedback) -> float:
        return 1.0


@dataclass(frozen=True)
class Smoothed:
    """p = 1 - eps: labels are wrong with probability eps (cDPO)."""

    eps: float

    def __call__(self, feedback: Feedback) -> float:
        return 1 - self.eps


@dataclass(frozen=True)
class Debiased:
    """p = (1 - eps) / (1 - 2 eps) > 1: the expectation over flipped labels is the loss of clean ones (rDPO)."""

    eps: float

    def __call__(self, feedback: Feedback) -> float:
        return (1 - self.eps) / (1 - 2 * self.eps)


@dataclass(frozen=True)
class BradleyTerry:
    """p = sigma((v_i - v_j) / temperature): relevance as a reward; the loss is least at z = (v_i - v_j) / temperature.

    DNO's target (arXiv 2404.03715); with two candidates also ADPO's.
    """

    temperature: float = 1.0

    def __call__(self, feedback: Feedback) -> Tensor:
        relevance = feedback.relevance
        return torch.sigmoid((relevance[..., :, None] - relevance[..., None, :]) / self.temperature)
