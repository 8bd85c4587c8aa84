"""Two sets of answers to the same prompts, compared by one judge: all statistics of it in one place."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unveil.judging.clusters import cluster_means
from unveil.judging.judge import Columns, Judge
from unveil.judging.judgement import Judgement, judge_answers
from unveil.judging.length_control import LengthControlledWinRate, length_controlled_win_rate
from unveil.judging.position import PositionBias, position_bias
from unveil.judging.power import deviation_from_even, minimum_detectable_difference
from unveil.judging.sign_test import SignTest, sign_test
from unveil.judging.unread import Unread, first_unread_reply, is_unread
from unveil.judging.usage import Usage
from unveil.judging.win_rate import WinRate, adjusted_win_rate


@dataclass(frozen=True)
class Comparison:
    """What a judge said of answers A against answers B.

    rows: one record per comparison, ready for JSON lines. All rates are over the pairs with a verdict that could be
    read; `unparsed` counts the others. mean_length_a, mean_length_b: words per answer, to be read beside the win rate,
    since many judges like length. length_ratio: A over B, None when B says nothing at all. position_bias: share of
    the judged pairs that position alone decided, None for a symmetric judge and without such pairs; `position` has its
    interval and more. equal: pairs with equal answers. asked: pairs that the judge was asked about; what it was not is
    a tie of equal answers, and counts in no number that is about the judge.
    minimum_detectable_difference: smallest |win rate - 1/2| that so many prompts show with probability 0.8, None if
    they are too few to show any. usage: what the judge has spent.
    """

    judge: str
    win_rate: WinRate
    rows: list[dict[str, Any]]
    mean_length_a: float
    mean_length_b: float
    length_ratio: float | None
    position_bias: float | None
    sign: SignTest
    length_controlled: LengthControlledWinRate
    position: PositionBias | None
    minimum_detectable_difference: float | None
    unparsed: int
    equal: int
    asked: int
    usage: Usage | None

    def summary(self) -> dict[str, Any]:
        """Everything but the rows, ready for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "rows"}

    def describe(self) -> str:
        """One line for people."""
        line = (
            f"{self.judge}: {self.win_rate.describe()}; "
            f"mean length {self.mean_length_a:.1f} against {self.mean_length_b:.1f} words"
        )
        if self.position_bias is not None:
            line += f"; {self.position_bias:.1%} of the pairs decided by position"
        if self.equal:
            line += f"; {self.equal} of {len(self.rows)} pairs had equal answers"
            if self.asked < len(self.rows):
                line += ", which tie unasked"
        if self.unparsed:
            line += f"; {self.unparsed} of {self.asked} verdicts could not be read and do not count"
        return line


def compare_answers(
    judge: Judge,
    prompts: Sequence[str],
    answers_a: Sequence[str],
    answers_b: Sequence[str],
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    columns: Columns | None = None,
) -> Comparison:
    """Judge A against B on every prompt; a judge that is not symmetric is asked in both orders.

    clusters: comparisons with the same label are one unit of evidence; None = those with the same prompt text, so
    that several seeds of a prompt count once.

    Raises:
        UserError: lists of unequal lengths, no prompts, or a judge none of whose verdicts could be read.
    """
    return comparison_of(judge_answers(judge, prompts, answers_a, answers_b, columns), clusters, level)


def comparison_of(judgement: Judgement, clusters: Sequence[Hashable] | None = None, level: float = 0.95) -> Comparison:
    """The statistics of what a judge said; clusters and errors as in `compare_answers`."""
    found = comparison_or_unread(judgement, clusters, level)
    if isinstance(found, Unread):
        raise found.error()
    return found


def comparison_or_unread(
    judgement: Judgement, clusters: Sequence[Hashable] | None = None, level: float = 0.95
) -> Comparison | Unread:
    """As `comparison_of`, but a judge none of whose verdicts could be read is no error."""
    labels: Sequence[Hashable] = judgement.prompts if clusters is None else clusters
    kept = [place for place, verdict in enumerate(judgement.verdicts) if verdict.parsed]
    words_a, words_b = (
        np.array([len(answer.split()) for answer in answers], dtype=np.float64)
        for answers in (judgement.answers_a, judgement.answers_b)
    )
    length_a, length_b = float(words_a.mean()), float(words_b.mean())
    shared: dict[str, Any] = {
        "judge": judgement.judge,
        "rows": judgement.rows(),
        "mean_length_a": length_a,
        "mean_length_b": length_b,
        "length_ratio": length_a / length_b if length_b else None,
        "unparsed": len(judgement.verdicts) - len(kept),
        "equal": sum(a == b for a, b in zip(judgement.answers_a, judgement.answers_b)),
        "asked": sum(verdict.asked for verdict in judgement.verdicts),
        "usage": judgement.usage,
    }
    if is_unread(judgement):
        return Unread(**shared, first_reply=first_unread_reply(judgement))
    outcomes = np.array([judgement.verdicts[place].outcome for place in kept])
    units = [labels[place] for place in kept]
    position = None
    if judgement.orders:
        position = position_bias(judgement.orders.a_first, judgement.orders.b_first, labels, level)
    means = cluster_means(outcomes, units)
    return Comparison(
        win_rate=adjusted_win_rate(outcomes, units, level),
        position_bias=judgement.orders.position_bias if judgement.orders and position else None,
        sign=sign_test(outcomes, units, level),
        length_controlled=length_controlled_win_rate(outcomes, words_a[kept], words_b[kept], units, level),
        position=position,
        minimum_detectable_difference=minimum_detectable_difference(
            len(means), deviation_from_even(means, level), level=level
        ),
        **shared,
    )
