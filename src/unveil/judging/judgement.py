"""What one judge said of every pair of answers: the evidence, before any statistic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unveil.errors import UserError
from unveil.judging.judge import Columns, Judge, Verdict, ask, judge_both_orders
from unveil.judging.usage import Usage


@dataclass(frozen=True)
class Judgement:
    """The verdicts on all pairs, with the texts that they are about.

    a_first, b_first: the verdicts of each order, both in terms of A and B; None for a symmetric judge. usage: what the
    judge said that it has spent so far, None if it spends nothing.
    """

    judge: str
    prompts: Sequence[str]
    answers_a: Sequence[str]
    answers_b: Sequence[str]
    verdicts: list[Verdict]
    a_first: list[Verdict] | None = None
    b_first: list[Verdict] | None = None
    usage: Usage | None = None

    @property
    def unparsed(self) -> list[int]:
        """Places of the pairs without a verdict that could be read (in either order)."""
        return [place for place, verdict in enumerate(self.verdicts) if not verdict.parsed]

    def rows(self) -> list[dict[str, Any]]:
        """One record per pair, ready for JSON lines; `winner` is None where no verdict could be read."""
        rows = []
        for place, verdict in enumerate(self.verdicts):
            row: dict[str, Any] = {
                "judge": self.judge,
                "prompt": self.prompts[place],
                "answer_a": self.answers_a[place],
                "answer_b": self.answers_b[place],
            }
            for order, given in (("a_first", self.a_first), ("b_first", self.b_first)):
                if given is not None:
                    row[f"winner_{order}"] = _winner(given[place])
            rows.append(row | {"winner": _winner(verdict), "reason": verdict.reason, "parsed": verdict.parsed})
        return rows


def judge_answers(
    judge: Judge,
    prompts: Sequence[str],
    answers_a: Sequence[str],
    answers_b: Sequence[str],
    columns: Columns | None = None,
) -> Judgement:
    """Ask about A against B on every prompt; a judge that is not symmetric is asked in both orders.

    columns: other columns of the data, one value per prompt, for a judge that reads them.
    """
    if not len(prompts) == len(answers_a) == len(answers_b):
        raise UserError(
            f"compare: {len(prompts)} prompts, {len(answers_a)} answers A and {len(answers_b)} answers B; "
            "give one of each per prompt"
        )
    if len(prompts) == 0:
        raise UserError("compare: there are no prompts; give at least one")
    a_first = b_first = None
    if judge.symmetric:
        verdicts = ask(judge, prompts, answers_a, answers_b, columns)
    else:
        both = judge_both_orders(judge, prompts, answers_a, answers_b, columns)
        verdicts, a_first, b_first = both.verdicts, both.a_first, both.b_first
    usage: Usage | None = getattr(judge, "usage", None)
    return Judgement(judge.name, prompts, answers_a, answers_b, verdicts, a_first, b_first, usage)


def _winner(verdict: Verdict) -> str | None:
    return verdict.winner if verdict.parsed else None
