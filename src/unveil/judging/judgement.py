"""What one judge said of every pair of answers: the evidence, before any statistic."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unveil.errors import UserError
from unveil.judging.judge import BothOrders, Columns, Judge, Verdict, ask, judge_both_orders
from unveil.judging.usage import Usage
from unveil.judging.whole_text import whole_text


@dataclass(frozen=True)
class Judgement:
    """The verdicts on all pairs, with the texts that they are about.

    orders: the verdicts of each order; None for a symmetric judge. usage: what the judge said that it has spent so
    far, None if it spends nothing. facts: what else it says of how it judged, such as the layers of its sandbox.
    """

    judge: str
    prompts: Sequence[str]
    answers_a: Sequence[str]
    answers_b: Sequence[str]
    verdicts: list[Verdict]
    orders: BothOrders | None = None
    usage: Usage | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def unparsed(self) -> list[int]:
        """Places of the pairs without a verdict that could be read (in either order)."""
        return [place for place, verdict in enumerate(self.verdicts) if not verdict.parsed]

    def rows(self) -> list[dict[str, Any]]:
        """One record per pair, ready for JSON lines; `winner` is None where no verdict could be read.

        A row has `asked`, False, where the answers are equal and the judge was not asked; a row without it was asked.
        """
        rows = []
        for place, verdict in enumerate(self.verdicts):
            row: dict[str, Any] = {
                "judge": self.judge,
                "prompt": self.prompts[place],
                "answer_a": self.answers_a[place],
                "answer_b": self.answers_b[place],
            }
            if self.orders:
                row["winner_a_first"] = _winner(self.orders.a_first[place])
                row["winner_b_first"] = _winner(self.orders.b_first[place])
            row |= {"winner": _winner(verdict), "reason": verdict.reason, "parsed": verdict.parsed}
            rows.append(row if verdict.asked else row | {"asked": False})
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
    prompts, answers_a, answers_b = ([whole_text(text) for text in texts] for texts in (prompts, answers_a, answers_b))
    orders = None if judge.symmetric else judge_both_orders(judge, prompts, answers_a, answers_b, columns)
    verdicts = orders.verdicts if orders else ask(judge, prompts, answers_a, answers_b, columns)
    usage: Usage | None = getattr(judge, "usage", None)
    facts = dict(getattr(judge, "facts", {}))
    return Judgement(whole_text(judge.name), prompts, answers_a, answers_b, verdicts, orders, usage, facts)


def _winner(verdict: Verdict) -> str | None:
    return verdict.winner if verdict.parsed else None
