"""DPO whose strength differs from pair to pair or from batch to batch: weights and factors that carry no gradient."""

from typing import Literal

from unveil.objectives.arguments import not_negative, one_of, positive, refuse
from unveil.objectives.pairs import DifficultyGap, MarginAdaptive, SoftPreference
from unveil.objectives.pairwise import Pairwise
from unveil.objectives.rewards import LogRatio
from unveil.objectives.stateful import BetaDPO

Trust = Literal["scorer", "label"]


def madpo(
    beta: float = 0.1,
    c_max: float = 2.0,
    c_min: float | None = None,
    rate: float = 1.0,
    threshold: float = 6.906754778648554,
) -> Pairwise:
    """MADPO: `omega(h) softplus(-beta D)`, h = score_w - score_l of a reward model, arXiv 2510.05342.

    omega = sigma(c(|h|) h) / sigma(h), see `MarginAdaptive`; under Bradley-Terry labels the optimum is beta D = c h:
    small margins are amplified by up to c_max, large ones damped to c_min. The authors' code has beta 0.1, c_max 2,
    c_min = 1 / c_max, rate 1, threshold log(0.999 / 0.001). Needs the scorer's rewards in the data.

    Noise: the weight never touches the surrogate, so as DPO.
    """
    c_min = 1 / c_max if c_min is None and c_max > 0 else c_min
    positive(beta=beta, rate=rate, threshold=threshold)
    if not 1 <= c_max < float("inf"):
        refuse("c_max", c_max, "be at least 1 and finite")
    if c_min is None or not 0 < c_min <= 1:
        refuse("c_min", c_min, "be above 0 and at most 1")
        raise AssertionError
    return Pairwise(LogRatio(beta), weight=MarginAdaptive(c_max, c_min, rate, threshold))


def beta_dpo(beta: float = 0.1, a: float = 0.6, keep: float = 0.8, decay: float = 0.9, seed: int = 0) -> BetaDPO:
    """beta-DPO: `softplus(-beta' D)` with beta' = beta (1 + a (mean D - M)) per batch and outliers left out.

    arXiv 2407.08639; beta 0.1, a 0.6, keep 0.8, decay 0.9 are the authors' code. M and S are running statistics of the
    raw gap D; see `BetaDPO`. Stateful and random: the trainer carries its state, `seed` fixes the draw.

    Noise: S is the deviation of noisy gaps, so it contains the noise; where that dominates, the filter keeps and drops
    by chance. Use more draws than DPO needs.
    """
    positive(beta=beta)
    not_negative(a=a)
    if not 0 < keep <= 1:
        refuse("keep", keep, "be above 0 and at most 1")
    if not 0 <= decay < 1:
        refuse("decay", decay, "be from 0 to below 1")
    return BetaDPO(beta, a, keep, decay, seed)


def da_dpo(beta: float = 0.1, scale: float = 1.0) -> Pairwise:
    """DA-DPO: `softplus(-beta gamma D)`, gamma = scale (1 + |d_w - d_l|), arXiv 2601.00623; beta 0.1, scale 1.

    d is an offline score of difficulty, given as the score of each answer; the fusion of scorers in the paper is not
    reproduced. A free one for diffusion models is the reference's ELBO per token. The gap is absolute, as in the
    authors' code: a pair that the scorer ranks the other way counts as easy. Easy pairs get *more* weight until
    beta gamma D reaches 1.28 and less only after.

    Noise: as DPO with beta gamma.
    """
    positive(beta=beta, scale=scale)
    return Pairwise(LogRatio(beta), strength=DifficultyGap(scale))


def soft_dpo(beta: float = 0.1, gamma: float = 10.0, temperature: float = 1.0, trust: Trust = "scorer") -> Pairwise:
    """SmPO's soft labels: `softplus(-beta gamma (2 p - 1) D)`, arXiv 2506.02698.

    p = sigma((score_w - score_l) / temperature): near-ties fade out, p = 1/2 has no gradient. gamma 10 is the authors',
    for scores brought to [0, 1] by the extremes of the training set; for rewards in logits take 1. beta 0.1 is DPO's
    (theirs is 2000, for images). As published the scorer overrides the label; `trust=label` drops such pairs instead.

    Noise: as DPO with beta gamma (2 p - 1).
    """
    positive(beta=beta, gamma=gamma, temperature=temperature)
    one_of(("scorer", "label"), trust=trust)
    return Pairwise(LogRatio(beta), strength=SoftPreference(gamma, temperature, trust))
