"""Does a judge prefer a place? Each pair was shown to it in both orders.

Reading fairly, the answer shown first wins as often as the one shown second: over both orders of a pair, A and B are
first once each, so their quality cancels and what is left belongs to the judge.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from unveil.errors import UserError
from unveil.judging.clusters import cluster_means
from unveil.judging.judge import Verdict
from unveil.judging.sign_test import SignTest, sign_test
from unveil.judging.win_rate import WinRate, adjusted_win_rate, mean_interval


@dataclass(frozen=True)
class PositionBias:
    """How a judge treats places, on the pairs that it judged in both orders (equal answers that it never saw are none).

    first: win rate of the answer shown first against the one shown second, 1/2 when fair (its wins, ties and losses
    count single verdicts, two per pair). test: exact, of "no place is preferred". flipped, low, high: share of the
    pairs where the same place won in both orders, so that place alone decided. same: share with one verdict in both
    orders. pairs: how many; n: prompts.
    """

    first: WinRate
    test: SignTest
    flipped: float
    low: float
    high: float
    same: float
    pairs: int
    n: int
    level: float = 0.95


def position_bias(
    a_first: Sequence[Verdict],
    b_first: Sequence[Verdict],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> PositionBias | None:
    """Verdicts of both orders, both in terms of A and B as in `BothOrders`; None if no pair was judged in both."""
    if len(a_first) != len(b_first):
        raise UserError(f"position bias: {len(a_first)} and {len(b_first)} verdicts; give both orders of every pair")
    kept = [i for i, pair in enumerate(zip(a_first, b_first)) if pair[0].judged and pair[1].judged]
    if not kept:
        return None
    labels: list[Hashable] = kept if clusters is None else [clusters[i] for i in kept]  # type: ignore[assignment]
    shown_first = np.array([[a_first[i].outcome, 1 - b_first[i].outcome] for i in kept])
    flipped = cluster_means((np.ptp(shown_first, axis=1) == 0) & (shown_first[:, 0] != 0.5), labels)
    low, high = mean_interval(flipped, level)
    return PositionBias(
        first=adjusted_win_rate(shown_first.T.ravel(), labels * 2, level),
        test=sign_test(shown_first.T.ravel(), labels * 2, level),
        flipped=float(flipped.mean()),
        low=low,
        high=high,
        same=float(np.mean([a_first[i].winner == b_first[i].winner for i in kept])),
        pairs=len(kept),
        n=len(flipped),
        level=level,
    )
