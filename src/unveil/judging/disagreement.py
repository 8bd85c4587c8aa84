"""Which pairs of answers divide the judges, or a judge from itself? Those are the ones to read.

Two verdicts are 1 apart if one says A and the other B, 1/2 if one of them is a tie.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from unveil.errors import UserError
from unveil.judging.judge import Verdict
from unveil.judging.judgement import Judgement


@dataclass(frozen=True)
class Disagreement:
    """How far apart the verdicts on one pair are.

    place: of the pair in the judgements. between: mean distance of the judges' verdicts. orders: largest distance of a
    judge's two verdicts, one for each order. unparsed: judges without a verdict that could be read.
    """

    place: int
    between: float
    orders: float
    unparsed: int

    @property
    def any(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self.between or self.orders or self.unparsed)


def disagreements(judgements: Sequence[Judgement]) -> list[Disagreement]:
    """All pairs, the most divided first: between judges, then between orders, then those that could not be read."""
    if len({len(judgement.verdicts) for judgement in judgements}) != 1:
        raise UserError("disagreements: the judges were asked about different numbers of pairs; give the same pairs")
    found = []
    for place in range(len(judgements[0].verdicts)):
        verdicts = [judgement.verdicts[place] for judgement in judgements]
        between = [_distance(one, other) for one, other in combinations(verdicts, 2) if one.parsed and other.parsed]
        orders = [
            _distance(judgement.orders.a_first[place], judgement.orders.b_first[place])
            for judgement in judgements
            if judgement.orders and judgement.verdicts[place].parsed
        ]
        unparsed = sum(not verdict.parsed for verdict in verdicts)
        found.append(
            Disagreement(place, float(np.mean(between)) if between else 0.0, max(orders, default=0.0), unparsed)
        )
    return sorted(found, key=lambda one: (-one.between, -one.orders, -one.unparsed, one.place))


def _distance(one: Verdict, other: Verdict) -> float:
    return abs(one.outcome - other.outcome)
