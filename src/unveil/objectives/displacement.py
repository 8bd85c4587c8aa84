"""Is the policy raising what was liked, or only lowering everything? Diagnostics of arXiv 2406.07327 and 2505.23761.

All are functions of surrogates and as noisy as these: read them beside the standard error of the margins. u is a
difference of bounds, so a falling u of rejected answers may also be a widening gap between ELBO and likelihood.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unveil.objectives.interface import Feedback, Likelihoods, neutral
from unveil.objectives.listwise import NEVER
from unveil.objectives.pointwise import mean_over


@dataclass(frozen=True)
class Displacement:
    """Means over prompts; NaN where the data cannot say (no pair, no liked answer, one candidate only).

    `chosen` is the best candidate of a prompt and `rejected` the worst; of a prompt with one label only, all
    candidates are the one or the other by relevance > 0.
    """

    chosen: float
    """Mean u of chosen answers, nats."""
    rejected: float
    """Mean u of rejected answers, nats."""
    chosen_fell: float
    """Share of chosen answers with u < 0: likelihood displacement."""
    both_fell: float
    """Share of prompts with both, where chosen and rejected have u < 0."""
    did_entropy: float
    """H(softmax(u)) over the candidates, nats: log K at the reference, 0 when one candidate took all."""
    group_mass_ratio: float
    """Geometric mean over prompts of sum_i pi_theta(y_i) / sum_i pi_ref(y_i): below 1, mass leaves the candidates."""


def displacement(likelihoods: Likelihoods, feedback: Feedback) -> Displacement:
    """Diagnostics of `[..., K]` surrogates; needs the reference."""
    likelihoods, feedback = neutral(likelihoods._replace(policy=likelihoods.policy.detach()), feedback)
    margins, real, relevance = likelihoods.margins(), feedback.real(), feedback.relevance
    highest = relevance.masked_fill(~real, -math.inf).amax(dim=-1, keepdim=True)
    lowest = relevance.masked_fill(~real, math.inf).amin(dim=-1, keepdim=True)
    both, liked = highest > lowest, relevance > 0
    chosen = real & torch.where(both, relevance == highest, liked)
    rejected = real & torch.where(both, relevance == lowest, ~liked)
    up, down = mean_over(chosen, margins), mean_over(rejected, margins)
    has_up, has_down = chosen.any(dim=-1), rejected.any(dim=-1)
    several = real.sum(dim=-1) > 1
    log_p = torch.log_softmax(margins.masked_fill(~real, NEVER), dim=-1)
    entropy = torch.special.entr(log_p.exp()).sum(dim=-1)
    assert likelihoods.reference is not None
    mass = _log_mass(likelihoods.policy, real) - _log_mass(likelihoods.reference, real)
    return Displacement(
        chosen=_mean(up, has_up),
        rejected=_mean(down, has_down),
        chosen_fell=_mean((up < 0).double(), has_up),
        both_fell=_mean(((up < 0) & (down < 0)).double(), has_up & has_down),
        did_entropy=_mean(entropy, several),
        group_mass_ratio=math.exp(min(_mean(mass, real.any(dim=-1)), 700.0)),
    )


def _log_mass(surrogate: Tensor, real: Tensor) -> Tensor:
    return torch.logsumexp(surrogate.masked_fill(~real, NEVER), dim=-1)


def _mean(values: Tensor, where: Tensor) -> float:
    return values[where].double().mean().item() if where.any() else math.nan
