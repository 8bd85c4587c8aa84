"""Objectives that need no reference: half of the forward passes, and no common noise to cancel against one.

a = B_theta / L is the per-token log-likelihood, o = a - log(1 - e^a) its log-odds.
"""

from unveil.objectives.algebra import WeightedSum
from unveil.objectives.arguments import not_negative, positive
from unveil.objectives.links import Logistic
from unveil.objectives.pairwise import Pairwise
from unveil.objectives.pointwise import Pointwise
from unveil.objectives.rewards import LogLikelihood, LogOdds
from unveil.objectives.sft import SFT, sft


def simpo(beta: float = 2.0, gamma: float = 0.5) -> Pairwise:
    """SimPO: `softplus(-(beta (a_w - a_l) - gamma))`, arXiv 2405.14734.

    beta 2 (the authors' 2.0 to 2.5, later up to 10) and gamma 0.5 (gamma / beta 0.25, the low end of their grid, and
    TRL's gamma). TRL's own beta is 0.1.

    Noise: without a reference the noise of B itself remains, but divided by the length; convex, biased upwards.
    """
    positive(beta=beta)
    not_negative(gamma=gamma)
    return Pairwise(LogLikelihood(beta, per_token=True), margin=gamma)


def cpo(beta: float = 0.1, sft_weight: float = 1.0) -> WeightedSum:
    """CPO: `softplus(-beta (B_w - B_l)) + sft_weight * (-a_w)`, arXiv 2401.08417; beta 0.1 and weight 1 as in TRL.

    Noise: the summed B has the largest noise of all rewards here and nothing to cancel it: use many draws.
    """
    positive(beta=beta)
    not_negative(sft_weight=sft_weight)
    return Pairwise(LogLikelihood(beta)) + sft_weight * sft()


def orpo(ratio_weight: float = 0.1) -> WeightedSum:
    """ORPO: `-a_w + ratio_weight softplus(-(o_w - o_l))`, arXiv 2403.07691; 0.1 as in TRL (there called beta).

    Noise: on per-token means it is small; log-odds are steep only where a model is nearly certain of every token.
    """
    not_negative(ratio_weight=ratio_weight)
    return ratio_weight * Pairwise(LogOdds()) + sft()


def asft(odds_weight: float = 1.0) -> WeightedSum:
    """Aligned SFT: `-a_w + odds_weight (softplus(-o_w) + softplus(o_l))`, arXiv 2409.10571.

    Equals `-(1 + w) a_w - w log(1 - e^(a_l))`. The weight 1 is the best of a follow-up's search over 0.1 to 1; the
    paper's own default is not known to us. Thumbs serve as well as pairs: each answer is judged alone, and the loss is
    the mean over liked answers plus that over disliked ones. (Not *anchored* SFT, another method of that name.)

    Noise: the liked term is linear and unbiased; the push on disliked answers fades as their likelihood does.
    """
    not_negative(odds_weight=odds_weight)
    return odds_weight * Pointwise(LogOdds(), Logistic(), class_means=True) + SFT(class_means=True)
