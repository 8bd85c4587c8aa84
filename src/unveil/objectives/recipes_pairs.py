"""DPO and its family: u = B_theta - B_ref, D = u_w - u_l (w chosen, l rejected), z = beta D.

Surrogates are sums over scored tokens in nats, so the papers' beta carry over. Policy and reference share their draws:
at theta = reference every u is exactly 0. On lists the loss is the mean over all pairs of unequal relevance.
"""

from typing import Literal, get_args

from unveil.objectives.algebra import WeightedSum
from unveil.objectives.arguments import flip_rate, not_negative, one_of, positive, refuse
from unveil.objectives.divergences import Alpha, Divergence, JensenShannon, ReverseKL, forward_kl
from unveil.objectives.links import Debiased, DiscoPop, Exo, Hinge, Smoothed, Squared
from unveil.objectives.pairs import Pairs, Which
from unveil.objectives.pairwise import Pairwise
from unveil.objectives.per_draw import ExpectationOutside, expectation_outside
from unveil.objectives.position_weights import PositionWeights
from unveil.objectives.rewards import LogRatio
from unveil.objectives.sft import sft

DivergenceName = Literal["reverse_kl", "forward_kl", "jensen_shannon", "alpha"]


def dpo(beta: float = 0.1, pairs: Which = "all") -> Pairwise:
    """DPO: `softplus(-beta D)`, arXiv 2305.18290. beta 0.1 (paper and TRL).

    Gradient weights -beta sigma(-z) and +beta sigma(-z).

    Noise: convex, so the plug-in loss is too large by sigma(z) sigma(-z) beta^2 Var(D) / 2; `jackknife` removes it.
    A rejected answer may be pushed down by widening its ELBO gap instead of lowering its likelihood.

    pairs: which pairs of a list: `all`, `best_worst` or `best_versus_rest`.
    """
    positive(beta=beta)
    one_of(get_args(Which), pairs=pairs)
    return Pairwise(LogRatio(beta), pairs=Pairs(pairs))


def vrpo(beta: float = 0.2, sft_weight: float = 0.05) -> WeightedSum:
    """VRPO of LLaDA 1.5: `softplus(-beta D) + sft_weight * (-B_theta(w) / L)`, arXiv 2505.19223.

    beta 0.2 and 0.05 are the paper's, which also draws 8 masks (`--num_draws 8 --draw_design iid`, one per level of
    noise) shared by policy and reference, and trains at a rate of 5e-7: both are flags of the run, not set here. The
    normalisation of its SFT term is not published: per token of the chosen answer here.

    Noise: as DPO; its theorems bound bias and variance of loss and gradient by the variance of the margin.
    """
    positive(beta=beta)
    not_negative(sft_weight=sft_weight)
    return Pairwise(LogRatio(beta)) + sft_weight * sft()


def d2_dpo(beta: float = 0.1) -> ExpectationOutside:
    """D2-DPO on ELBO draws: `mean_k softplus(-beta D_k)` over draws k, arXiv 2503.08295. beta 0.1 (DPO's).

    Noise: none from the number of draws, but another optimum: single draws are noisy, and by Jensen their mean loss
    bounds DPO's from above. Chosen and rejected should share the level of noise of a draw.
    """
    positive(beta=beta)
    return expectation_outside(Pairwise(LogRatio(beta)))


def cdpo(beta: float = 0.1, eps: float = 0.1) -> Pairwise:
    """Conservative DPO: `(1 - eps) softplus(-z) + eps softplus(z)`, Mitchell 2023 (note on noisy preferences).

    beta 0.1 and eps 0.1 as TRL records for robust DPO. Optimum at z = logit(1 - eps): margins stop growing.

    Noise: as DPO; the correction eps z is linear and unbiased.
    """
    positive(beta=beta)
    flip_rate(eps=eps)
    return Pairwise(LogRatio(beta), target=Smoothed(eps))


def rdpo(beta: float = 0.1, eps: float = 0.1) -> Pairwise:
    """Provably robust DPO: `[(1 - eps) softplus(-z) - eps softplus(z)] / (1 - 2 eps)`, arXiv 2403.00409.

    beta 0.1 and eps 0.1 are the paper's. Its mean over labels flipped at the rate eps is DPO's loss on clean ones.
    Unbounded below (slope -eps / (1 - 2 eps) for ever): a negative training loss is right, few epochs are wise.

    Noise: the correction is linear and unbiased, but its constant push on the rejected bound never ends.
    """
    positive(beta=beta)
    flip_rate(eps=eps)
    return Pairwise(LogRatio(beta), target=Debiased(eps))


def fdpo(divergence: DivergenceName = "jensen_shannon", beta: float = 0.1, alpha: float = 0.5) -> Pairwise:
    """f-DPO: `softplus(-beta (s(u_w) - s(u_l)))`, s = f'(e^u), arXiv 2309.16240; see `divergences`.

    beta 0.1 and alpha 0.5 are TRL's; the authors use 0.3 (Jensen-Shannon, alpha) and 0.03 (forward KL) on dialogues.
    alpha is the paper's: TRL's coefficient is 1 - alpha.

    Noise: Jensen-Shannon even bounds its effect. Forward KL and alpha take e^(-alpha u): variance V of u multiplies
    the mean by e^(alpha^2 V / 2), and the exponent goes on as its tangent above 20; use small beta and many draws.
    """
    positive(beta=beta)
    one_of(get_args(DivergenceName), divergence=divergence)
    if not 0 < alpha < 1:
        refuse("alpha", alpha, "be above 0 and below 1; the ends are divergence=reverse_kl and divergence=forward_kl")
    scores: dict[str, Divergence] = {
        "reverse_kl": ReverseKL(),
        "forward_kl": forward_kl(),
        "jensen_shannon": JensenShannon(),
        "alpha": Alpha(alpha),
    }
    return Pairwise(LogRatio(beta, scores[divergence]))


def ipo(beta: float = 0.1, per_token: bool = True) -> Pairwise:
    """IPO: `(D - 1 / (2 beta))^2`, arXiv 2310.12036; beta (the paper's tau) 0.1 as in TRL.

    per_token divides each u by its length, as TRL does after asking the authors; the paper's formula sums.

    Noise: the plug-in adds Var(D) to the loss and drives training to shrink it; `jackknife` is exact here.
    """
    positive(beta=beta)
    return Pairwise(LogRatio(1.0, per_token=per_token), link=Squared(1 / (2 * beta)))


def hinge(beta: float = 0.05) -> Pairwise:
    """SLiC on log-ratios: `max(0, 1 - beta D)`, arXiv 2305.10425 and 2309.06657; beta is RSO's gamma, 0.05.

    Noise: piecewise linear, so biased only near the kink: pairs with a margin there are pushed on half of the time.
    """
    positive(beta=beta)
    return Pairwise(LogRatio(beta), link=Hinge())


def exo(beta: float = 0.1, eps: float = 1e-3) -> Pairwise:
    """EXO for pairs: `KL(sigma(z) || 1 - eps)`, the reverse of cDPO's direction, arXiv 2402.00856.

    `sigma(z) log(sigma(z) / (1 - eps)) + sigma(-z) log(sigma(-z) / eps)`; beta 0.1 and eps 1e-3 as in TRL.

    Noise: bounded slopes; the loss is not convex, so the bias has either sign.
    """
    positive(beta=beta)
    flip_rate(eps=eps, above_zero=True)
    return Pairwise(LogRatio(beta), link=Exo(), target=Smoothed(eps))


def discopop(beta: float = 0.05, tau: float = 0.05) -> Pairwise:
    """DiscoPOP: `(1 - m) softplus(-z) + m e^(-z)`, m = sigma(z / tau), arXiv 2406.08414; beta 0.05, tau 0.05.

    Noise: the exponential arm acts on pairs that are already right and is at most 1; the switch at z = 0 is as wide
    as tau, so noise of z above tau blurs it and biases the loss.
    """
    positive(beta=beta, tau=tau)
    if tau > 1:
        refuse("tau", tau, "be at most 1; above it the exponential arm is unbounded")
    return Pairwise(LogRatio(beta), link=DiscoPop(tau))


def ld_dpo(beta: float = 0.1, alpha: float = 0.5) -> Pairwise:
    """LD-DPO: DPO on `B = sum_(i <= n) b_i + alpha sum_(i > n) b_i`, n the shorter length, arXiv 2409.06411.

    beta 0.1 (DPO's); alpha 0.5, the paper's best for Llama-3-8B-Instruct; 1 is DPO. The weights are the likelihood's
    (`position_weights`), for policy and reference alike.

    Noise: as DPO. In a diffusion model the first n tokens are denoised with the tail in view, so their sum is no ELBO
    of the prefix: the method weighs length, nothing more.
    """
    positive(beta=beta)
    if not 0 <= alpha <= 1:
        refuse("alpha", alpha, "be from 0 to 1")
    return Pairwise(LogRatio(beta), position_weights=PositionWeights("ld", alpha))


def flex_dpo(beta: float = 0.1, beta_rejected: float = 0.08, sft_weight: float = 0.0) -> Pairwise | WeightedSum:
    """Flex-DPO of 3D-Properties: `softplus(-(beta u_w - beta_rejected u_l))` plus an SFT term, arXiv 2406.07327.

    beta 0.1 and beta_rejected 0.08 (best on poems, from reviews; the SFT weight is not known: off). A smaller
    beta_rejected slows the collapse of rejected answers and pulls their prompt up on the whole.

    Noise: as DPO, except that gaps shared by both answers no longer cancel completely.
    """
    positive(beta=beta)
    not_negative(beta_rejected=beta_rejected, sft_weight=sft_weight)
    objective = Pairwise(LogRatio(beta), rejected_reward=LogRatio(beta_rejected))
    return objective + sft_weight * sft() if sft_weight else objective
