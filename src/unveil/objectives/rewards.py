"""What a candidate is worth to the policy: the `reward` slot, `[..., K]` likelihoods -> `[..., K]`.

LogRatio        beta s(u),  u = B_theta - B_ref          DPO, f-DPO, IPO, KTO, ADPO, ...
LogLikelihood   beta B_theta (or per token)              CPO, SimPO, DisCO
LogOdds         a - log(1 - e^a),  a = B_theta / L       ORPO, ASFT
LikelihoodRatio e^(u / L)                                DisCO's likelihood-ratio score
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unveil.objectives.divergences import Divergence, ReverseKL, guarded_exp
from unveil.objectives.interface import Likelihoods


@dataclass(frozen=True)
class LogRatio:
    """`beta s(u)`; per token `beta s(u) / L`. Systematic gaps between ELBO and likelihood cancel within a prompt."""

    beta: float = 0.1
    divergence: Divergence = field(default_factory=ReverseKL)
    per_token: bool = False

    needs_reference = True

    def __call__(self, likelihoods: Likelihoods) -> Tensor:
        score = self.divergence(likelihoods.margins())
        return self.beta * (score / likelihoods.tokens() if self.per_token else score)


@dataclass(frozen=True)
class LogLikelihood:
    """`beta B_theta`, or `beta B_theta / L`: no reference, so the noise of B does not cancel against one."""

    beta: float = 1.0
    per_token: bool = False

    needs_reference = False

    def __call__(self, likelihoods: Likelihoods) -> Tensor:
        policy = likelihoods.policy
        return self.beta * (policy / likelihoods.tokens() if self.per_token else policy)


@dataclass(frozen=True)
class LogOdds:
    """log(p / (1 - p)) of the per-token geometric mean p = e^(B_theta / L); on sums 1 - p would be 1."""

    needs_reference = False

    def __call__(self, likelihoods: Likelihoods) -> Tensor:
        mean = likelihoods.policy / likelihoods.tokens()
        return mean - log1mexp(mean)


@dataclass(frozen=True)
class LikelihoodRatio:
    """e^(u / L): the per-token geometric mean of pi_theta / pi_old, its exponent guarded."""

    needs_reference = True

    def __call__(self, likelihoods: Likelihoods) -> Tensor:
        return guarded_exp(likelihoods.margins() / likelihoods.tokens())


def log1mexp(log_p: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, accurate at both ends; x is held below -1e-6, where log(1 - p) would leave the reals."""
    log_p = log_p.clamp(max=-1e-6)
    near_one = log_p > -math.log(2)
    # Each branch sees only arguments that it can take, so that no infinity meets a zero in the backward.
    small = torch.where(near_one, log_p, torch.full_like(log_p, -1.0))
    large = torch.where(near_one, torch.full_like(log_p, -1.0), log_p)
    return torch.where(near_one, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))
