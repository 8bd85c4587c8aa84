"""Two sets of answers to the same prompts, compared by one judge."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unveil.errors import UserError
from unveil.judging.judge import Judge, ask, judge_both_orders
from unveil.judging.win_rate import WinRate, adjusted_win_rate


@dataclass(frozen=True)
class Comparison:
    """What a judge said of answers A against answers B.

    rows: one record per comparison, ready for JSON lines. mean_length_a, mean_length_b: words per answer, to be read
    beside the win rate, since many judges like length. length_ratio: A over B, None when B says nothing at all.
    position_bias: share of pairs that the judge decided by position alone, None for a symmetric judge.
    """

    judge: str
    win_rate: WinRate
    rows: list[dict[str, Any]]
    mean_length_a: float
    mean_length_b: float
    length_ratio: float | None
    position_bias: float | None

    def summary(self) -> dict[str, Any]:
        """Everything but the rows, ready for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "rows"}

    def describe(self) -> str:
        """One line for people."""
        line = (
            f"{self.judge}: {self.win_rate.describe()}; "
            f"mean length {self.mean_length_a:.1f} against {self.mean_length_b:.1f} words"
        )
        if self.position_bias is None:
            return line
        return f"{line}; {self.position_bias:.1%} of the pairs decided by position"


def compare_answers(
    judge: Judge,
    prompts: Sequence[str],
    answers_a: Sequence[str],
    answers_b: Sequence[str],
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Comparison:
    """Judge A against B on every prompt; a judge that is not symmetric is asked in both orders.

    clusters: comparisons with the same label are one unit of evidence; None = those with the same prompt text, so
    that several seeds of a prompt count once.
    """
    if not len(prompts) == len(answers_a) == len(answers_b):
        raise UserError(
            f"compare: {len(prompts)} prompts, {len(answers_a)} answers A and {len(answers_b)} answers B; "
            "give one of each per prompt"
        )
    if len(prompts) == 0:
        raise UserError("compare: there are no prompts; give at least one")
    rows = [
        {"judge": judge.name, "prompt": prompt, "answer_a": a, "answer_b": b}
        for prompt, a, b in zip(prompts, answers_a, answers_b, strict=True)
    ]
    if judge.symmetric:
        verdicts, position_bias = ask(judge, prompts, answers_a, answers_b), None
    else:
        both = judge_both_orders(judge, prompts, answers_a, answers_b)
        verdicts, position_bias = both.verdicts, both.position_bias
        for row, one, other in zip(rows, both.a_first, both.b_first, strict=True):
            row.update(winner_a_first=one.winner, winner_b_first=other.winner)
    for row, verdict in zip(rows, verdicts, strict=True):
        row.update(winner=verdict.winner, reason=verdict.reason)
    length_a, length_b = _mean_words(answers_a), _mean_words(answers_b)
    return Comparison(
        judge=judge.name,
        win_rate=adjusted_win_rate(
            [verdict.outcome for verdict in verdicts], prompts if clusters is None else clusters, level
        ),
        rows=rows,
        mean_length_a=length_a,
        mean_length_b=length_b,
        length_ratio=length_a / length_b if length_b else None,
        position_bias=position_bias,
    )


def _mean_words(answers: Sequence[str]) -> float:
    return float(np.mean([len(answer.split()) for answer in answers]))
