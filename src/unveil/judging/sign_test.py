"""Does A win more prompts than it loses? Exact, without any assumption on how often they tie.

A prompt is won when its mean outcome is above 1/2, lost when below, and says nothing when equal. Given that w + l
prompts were decided, w is Binomial(w + l, share), where share = 1/2 if A and B are equally good. The p-value is the
two-sided one of that binomial, the interval of the share is that of Clopper and Pearson (1934): it covers at least as
often as it says, whatever the share and the number of prompts.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, betaincinv

from unveil.errors import UserError
from unveil.judging.clusters import cluster_means
from unveil.judging.win_rate import check_level


@dataclass(frozen=True)
class SignTest:
    """Share of the decided prompts that A won, with its exact interval and the p-value of "equally good".

    wins, losses, ties count prompts. share is None (and the interval all of 0..1) when every prompt is a tie.
    """

    share: float | None
    low: float
    high: float
    p_value: float
    wins: int
    losses: int
    ties: int
    level: float = 0.95


def sign_test(
    outcomes: Sequence[float] | np.ndarray, clusters: Sequence[Hashable] | None = None, level: float = 0.95
) -> SignTest:
    """The exact test on outcomes 1 (A wins), 1/2 (tie), 0 (B wins); clusters as in `adjusted_win_rate`."""
    values = np.asarray(outcomes, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise UserError(f"sign test: outcomes of shape {values.shape}; give a list with at least one")
    check_level(level)
    means = values if clusters is None else cluster_means(values, clusters)
    leaning = np.sign(np.round(means - 0.5, 12))  # a mean of thirds may miss 1/2 by rounding
    wins, losses = int((leaning > 0).sum()), int((leaning < 0).sum())
    decided = wins + losses
    low, high = clopper_pearson(wins, decided, level)
    return SignTest(
        share=wins / decided if decided else None,
        low=low,
        high=high,
        p_value=_p_value(wins, decided),
        wins=wins,
        losses=losses,
        ties=len(means) - decided,
        level=level,
    )


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a probability from a number of successes; all of 0..1 without trials."""
    alpha = 1 - level
    low = float(betaincinv(successes, trials - successes + 1, alpha / 2)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - alpha / 2)) if successes < trials else 1.0
    return low, high


def _p_value(wins: int, decided: int) -> float:
    fewer = min(wins, decided - wins)
    return min(1.0, 2 * float(bdtr(fewer, decided, 0.5))) if decided else 1.0
