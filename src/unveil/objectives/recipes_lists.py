"""Objectives of several graded candidates: u_i = B_theta - B_ref of candidate i, v_i its relevance, r = beta u."""

from typing import Literal

from unveil.objectives.algebra import WeightedSum
from unveil.objectives.arguments import not_negative, one_of, positive, refuse
from unveil.objectives.disco import Contrast, TrustRegion
from unveil.objectives.listwise import InContext, Listwise, OneHot, PlackettLuce, Softmax
from unveil.objectives.pairs import DCG, Pairs
from unveil.objectives.pairwise import Pairwise
from unveil.objectives.position_weights import PositionWeights
from unveil.objectives.rewards import LikelihoodRatio, LogLikelihood, LogRatio


def adpo(
    tau: float = 1.0,
    reward_tau: float = 0.5,
    target: Literal["softmax", "one_hot"] = "softmax",
    standardise: bool = False,
    per_token: bool = False,
) -> Listwise:
    """ADPO: `KL(q || softmax((B_theta - B_anchor) / tau))`, q = softmax(v / reward_tau), arXiv 2510.18913.

    tau 1 and reward_tau 0.5 are the authors' trainer; their list recipe standardises v within the group first. The
    anchor is the reference, fixed or refreshed. Gradient weights (p - q) / tau add up to 0.

    Noise: a gap common to the prompt cancels; the bias is trace(Hessian Cov) / 2. Summed surrogates make p nearly one
    candidate: take tau about 10 (1 / beta of DPO), or per_token.
    """
    positive(tau=tau, reward_tau=reward_tau)
    one_of(("softmax", "one_hot"), target=target)
    believed = OneHot() if target == "one_hot" else Softmax(reward_tau, standardise)
    return Listwise(LogRatio(1 / tau, per_token=per_token), believed)


def irpo(beta: float = 1.0, normalise: bool = True) -> InContext:
    """In-context ranking: `(1/N) sum_i w_i softplus(lse_(j != i) beta (u_j - u_i) - log(N - 1))`, arXiv 2504.15477.

    w_i = (2^v_i - 1) / log2(1 + shown rank of i). Items are spans of one answer: their surrogates are per-token means
    over the span from one set of masks (`position_weights`). beta 1 is the paper's. The authors' code has the
    log(N - 1), the paper's formula not; without it the loss is a weighted softmax. Items need relevance and rank.

    Noise: all items share their masks, which cancels much of it; convex, biased upwards.
    """
    positive(beta=beta)
    return InContext(LogRatio(beta, per_token=True), normalise, position_weights=PositionWeights("spans"))


def tree_po(beta: float = 0.5, swap_weights: bool = True) -> Pairwise:
    """Tree preference optimisation: mean over pairs v_i > v_j of `lambda_ij softplus(-(r_i - r_j))`, arXiv 2410.12854.

    lambda_ij as in `lipo` (1 without swap_weights); beta 0.5 is the authors'. Steps enter through `position_weights`,
    one number per scored token, for policy and reference. The paper's weights are cosine similarities of step
    embeddings; here they are given. Its public code has the sign of the loss reversed and is not followed.

    Noise: as DPO for every pair; current ranks decided by noise only make the weights random, never biased.
    """
    positive(beta=beta)
    weight = DCG("reward") if swap_weights else None
    return Pairwise(LogRatio(beta), weight=weight, shape="lists", position_weights=PositionWeights("steps"))


def rankdpo(beta: float = 0.1) -> Pairwise:
    """RankDPO: `sum_(v_i > v_j) |G_i - G_j| |1/D_i - 1/D_j| softplus(-(r_i - r_j))`, arXiv 2410.18013.

    G = 2^v - 1, D = log(1 + rank by v), v in [0, 1] the share of comparisons won. The paper's beta was not found:
    0.1 is DPO's.

    Noise: as DPO for every pair, weights are fixed. Share the level of noise, and masks where lengths agree, within a
    list; the paper moves the expectation outside (`expectation_outside`).
    """
    positive(beta=beta)
    return Pairwise(LogRatio(beta), pairs=Pairs(mean=False), weight=DCG("relevance"), shape="lists")


def plackett_luce(beta: float = 0.1) -> PlackettLuce:
    """DPO's list form: `-sum_k log softmax over ranks >= k of r, at rank k`, arXiv 2305.18290; beta 0.1.

    Ties are not ordered: each tied answer is compared only with what is strictly worse.

    Noise: a sum of log-sum-exps, convex in every u, biased upwards by K - 1 terms of DPO's size.
    """
    positive(beta=beta)
    return PlackettLuce(LogRatio(beta))


def lipo(beta: float = 0.05) -> Pairwise:
    """LiPO-lambda: RankDPO's sum with ranks by the *current* rewards, arXiv 2402.01878.

    beta 0.05 is that of the same group's RSO; the paper's own was not read. Equal rewards are ranked by relevance,
    so that training starts (all rewards are 0 then).

    Noise: as RankDPO; noise also reorders the ranks, which makes the weights random.
    """
    positive(beta=beta)
    return Pairwise(LogRatio(beta), pairs=Pairs(mean=False), weight=DCG("reward"), shape="lists")


def disco(
    score: Literal["log_l", "l_ratio"] = "log_l",
    tau: float | None = None,
    penalty: float = 1e3,
    delta: float = 1e-4,
    estimate: Literal["k1", "k2"] = "k1",
) -> Contrast | WeightedSum:
    """DisCO: `-mean_P s + tau log mean_N e^(s / tau) + penalty / 2 [KL(old || theta) - delta]_+^2`, arXiv 2505.12366.

    P and N are the liked and disliked answers of a prompt. s is B_theta / L (`log_l`, tau 10) or e^((B_theta - B_old)
    / L) (`l_ratio`, tau 1); tau inf is DisCO-b. penalty 1000 and delta 1e-4 are the paper's; the KL is per token, see
    `TrustRegion`, and its reference is the *old* policy. penalty 0 leaves it out, and `log_l` then needs no reference.

    Noise: `log_l` with tau inf is linear in B and unbiased. The KL of ELBOs is a difference of bounds: share the draws
    and retune delta.
    """
    one_of(("log_l", "l_ratio"), score=score)
    one_of(("k1", "k2"), estimate=estimate)
    not_negative(penalty=penalty, delta=delta)
    if tau is not None and not tau > 0:
        refuse("tau", tau, "be above 0; inf is the plain mean of negatives")
    log_likelihood = score == "log_l"
    reward = LogLikelihood(per_token=True) if log_likelihood else LikelihoodRatio()
    contrast = Contrast(reward, (10.0 if log_likelihood else 1.0) if tau is None else tau)
    return contrast + TrustRegion(delta, penalty, estimate) if penalty else contrast
