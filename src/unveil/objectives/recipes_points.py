"""Objectives that judge every answer alone: r = beta u, u = B_theta - B_ref. What ELBO and likelihood differ by does
not cancel within a prompt; a shift (BCO, KTO) repairs what all answers have in common.
"""

from unveil.objectives.algebra import WeightedSum
from unveil.objectives.arguments import not_negative, positive
from unveil.objectives.links import Logistic, Sigmoid, Squared
from unveil.objectives.listwise import NoiseContrast, OneHot, Softmax
from unveil.objectives.pairwise import Pairwise
from unveil.objectives.pointwise import Pointwise
from unveil.objectives.rewards import LogRatio
from unveil.objectives.stateful import BCO


def apo_zero(beta: float = 0.1) -> Pointwise:
    """APO-zero: `1 - sigma(r_w) + sigma(r_l)`, arXiv 2408.06266; beta 0.1 (paper and TRL).

    For chosen answers that are better than what the model says: raises them and lowers the rejected.

    Noise: sigmoids saturate, so the bias has either sign and outliers lose their weight.
    """
    positive(beta=beta)
    return Pointwise(LogRatio(beta), Sigmoid(), shape="pairs")


def apo_zero_unpaired(beta: float = 0.1) -> Pointwise:
    """APO-zero on thumbs: `1 - sigma(r)` of liked, `sigma(r)` of disliked answers; KTO with the baseline 0.

    arXiv 2408.06266, beta 0.1 as in TRL. Noise: as `apo_zero`.
    """
    positive(beta=beta)
    return Pointwise(LogRatio(beta), Sigmoid())


def apo_down(beta: float = 0.1) -> WeightedSum:
    """APO-down: `sigma(r_w) + 1 - sigma(r_w - r_l)`, arXiv 2408.06266; beta 0.1 (paper and TRL).

    For chosen answers that are worse than what the model says: lowers both, the rejected more.

    Noise: as `apo_zero`; lowering a bound need not lower the likelihood, and here both are lowered.
    """
    positive(beta=beta)
    lower_chosen = Pointwise(LogRatio(beta), Sigmoid(), weights=(1.0, 0.0), directions=(-1, -1))
    return Pairwise(LogRatio(beta), Sigmoid()) + lower_chosen


def bco(beta: float = 0.1) -> BCO:
    """BCO: `softplus(-(r - delta))` liked, `softplus(r - delta)` disliked, delta the running mean of r.

    arXiv 2404.04656, beta 0.1 as in TRL. For thumbs and for pairs: the mean over liked plus the mean over disliked
    answers of the batch, as published (TRL takes the mean over all, half of it where both are as many). Stateful: the
    trainer carries delta. The paper's density-ratio weights need embeddings and are not part of it.

    Noise: convex, biased upwards; delta takes out what all answers have in common.
    """
    positive(beta=beta)
    return BCO(beta)


def bco_pair(beta: float = 0.1) -> Pointwise:
    """BCO without a shift, as TRL's pair loss: `softplus(-r_w) + softplus(r_l)`, arXiv 2404.04656; beta 0.1.

    Noise: convex, biased upwards; without a shift a common gap of the surrogates moves every r.
    """
    positive(beta=beta)
    return Pointwise(LogRatio(beta), Logistic(), class_means=True, shape="pairs")


def nca(beta: float = 0.01, reward_tau: float | None = None) -> NoiseContrast:
    """NCA: `sum_i q_i softplus(-r_i) + (1/K) sum_i softplus(r_i)`, arXiv 2402.05369; beta 0.01 (paper).

    On a pair `softplus(-r_w) + softplus(r_w) / 2 + softplus(r_l) / 2`. With reward_tau, q = softmax(relevance /
    reward_tau) over a list; without, the best answer.

    Noise: convex, biased upwards; fixes the level of r, so a common gap of the surrogates is learned away.
    """
    positive(beta=beta)
    if reward_tau is None:
        return NoiseContrast(LogRatio(beta), OneHot())
    positive(reward_tau=reward_tau)
    return NoiseContrast(LogRatio(beta), Softmax(reward_tau))


def sppo(beta: float = 1e-3) -> Pointwise:
    """SPPO with hard labels: `(u_w - 1 / (2 beta))^2 + (u_l + 1 / (2 beta))^2`, arXiv 2405.00675.

    beta = 1 / eta = 0.001 (paper and TRL). Noise: the plug-in adds Var(u) and a drive to shrink it; `jackknife` is
    exact here.
    """
    positive(beta=beta)
    return Pointwise(LogRatio(1.0), Squared(1 / (2 * beta)), shape="pairs")


def ddo(alpha: float = 0.5, beta: float = 0.1, per_token: bool = True) -> Pointwise:
    """DDO: `softplus(-beta u)` of real answers, `alpha softplus(beta u)` of the reference's own, arXiv 2503.01103.

    relevance 1 marks real data and 0 samples of the reference; the loss is the sum of the means over either, as
    published, whatever their shares of the batch. On sums (per_token false) it is least, over free u, where
    pi_theta ~ pi_ref^(1 - 1/beta) pi_data^(1/beta) up to a constant, which alpha moves. alpha 0.5, beta 0.1 and the
    division by the length are those of its text version (T3D); images use alpha 0.5 to 6, beta 0.01 to 0.1.

    Noise: convex, biased upwards; the paper moves the expectation outside (`expectation_outside`). On sums take beta
    far below 0.1. The push on fakes may widen their ELBO gap only.
    """
    positive(beta=beta)
    not_negative(alpha=alpha)
    return Pointwise(LogRatio(beta, per_token=per_token), Logistic(), weights=(1.0, alpha), class_means=True)
