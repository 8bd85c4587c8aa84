"""Do judges agree with each other, and each with itself?"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from unveil.errors import UserError
from unveil.judging.alpha import krippendorff_alpha
from unveil.judging.clusters import cluster_means
from unveil.judging.judge import Verdict
from unveil.judging.kappa import Agreement, cohen_kappa
from unveil.judging.win_rate import mean_interval


@dataclass(frozen=True)
class PairAgreement:
    """Two judges: their names and Cohen's kappa on the items that both judged."""

    judges: tuple[str, str]
    kappa: Agreement


@dataclass(frozen=True)
class JudgeAgreement:
    """Several judges: every pair, and Krippendorff's alpha of all of them.

    A verdict that was unparsed or not asked for is a missing label.
    """

    pairs: list[PairAgreement]
    alpha: Agreement

    def matrix(self, names: Sequence[str]) -> list[list[float | None]]:
        """Kappa of each judge (row) with each (column); 1 on the diagonal, None where undefined."""
        known = {frozenset(pair.judges): pair.kappa.value for pair in self.pairs}
        return [[1.0 if a == b else known[frozenset((a, b))] for b in names] for a in names]


@dataclass(frozen=True)
class SelfConsistency:
    """A judge asked several times about the same pairs: chance that two of its verdicts agree, with its interval.

    alpha: the same corrected for chance. repeats: times asked. n: prompts. Pairs with fewer than two judged verdicts
    do not count.
    """

    rate: float
    low: float
    high: float
    alpha: Agreement
    repeats: int
    n: int
    level: float = 0.95


def labels_of(verdicts: Sequence[Verdict]) -> list[str | None]:
    """The winners; None for what could not be parsed, and where the judge was not asked."""
    return [verdict.winner if verdict.judged else None for verdict in verdicts]


def judge_agreement(
    verdicts: Mapping[str, Sequence[Verdict]], clusters: Sequence[Hashable] | None = None, level: float = 0.95
) -> JudgeAgreement:
    """Agreement of two judges or more (name -> verdicts on the same items)."""
    if len(verdicts) < 2:
        raise UserError("agreement between judges: there is only one; give at least two")
    labels = {name: labels_of(given) for name, given in verdicts.items()}
    return JudgeAgreement(
        pairs=[
            PairAgreement((one, other), cohen_kappa(labels[one], labels[other], clusters, level))
            for one, other in combinations(labels, 2)
        ],
        alpha=krippendorff_alpha(list(labels.values()), clusters, level),
    )


def self_consistency(
    repeats: Sequence[Sequence[Verdict]], clusters: Sequence[Hashable] | None = None, level: float = 0.95
) -> SelfConsistency | None:
    """repeats: the verdicts of each time the judge was asked, [times][items]; None if no item has two verdicts."""
    if len(repeats) < 2:
        raise UserError("self-consistency: the judge was asked once; ask at least twice")
    labels = [labels_of(given) for given in repeats]
    alpha = krippendorff_alpha(labels, clusters, level)
    shares, kept = [], []
    for place, given in enumerate(zip(*labels, strict=True)):
        known = [label for label in given if label is not None]
        if len(known) >= 2:
            equal = sum(known.count(label) - 1 for label in known)
            shares.append(equal / (len(known) * (len(known) - 1)))
            kept.append(place)
    if not kept:
        return None
    means = np.array(shares) if clusters is None else cluster_means(np.array(shares), [clusters[i] for i in kept])
    low, high = mean_interval(means, level)
    return SelfConsistency(float(means.mean()), low, high, alpha, len(repeats), len(means), level)
