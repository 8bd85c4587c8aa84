"""What a judge is, and how to ask one that may favour whatever it reads first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from unveil.errors import UserError
from unveil.judging.whole_text import whole_text

Winner = Literal["A", "B", "tie"]
_OUTCOME: dict[Winner, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}
_SWAPPED: dict[Winner, Winner] = {"A": "B", "tie": "tie", "B": "A"}
# Columns of the data beside the prompts: one value per prompt in each.
Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Verdict:
    """Which of two answers is better, and why in the judge's words.

    parsed: False says that the judge answered, but no verdict could be read from what it wrote. Such a verdict has the
    winner "tie" for want of another, is no tie, and is counted apart: never guessed.
    asked: False says that the judge was not asked, since the answers are the same. It is a tie between them, and says
    nothing of the judge.
    """

    winner: Winner
    reason: str = ""
    parsed: bool = True
    asked: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", whole_text(self.reason))
        if self.winner not in get_args(Winner):
            raise ValueError(f"Verdict: the winner is {self.winner!r}; it must be 'A', 'B' or 'tie'")
        if not self.parsed and self.winner != "tie":
            raise ValueError(f"Verdict: it could not be read, yet the winner is {self.winner!r}; it must be 'tie'")
        if not self.asked and (self.winner != "tie" or not self.parsed):
            raise ValueError("Verdict: the judge was not asked; only a tie of equal answers needs no judge")

    @property
    def judged(self) -> bool:
        """Whether the judge was asked and its verdict could be read: only such verdicts tell of the judge."""
        return self.asked and self.parsed

    @property
    def outcome(self) -> float:
        """1 when A wins, 1/2 for a tie, 0 when B wins."""
        return _OUTCOME[self.winner]

    def swapped(self) -> "Verdict":
        """The same verdict with the names of the answers exchanged."""
        return Verdict(_SWAPPED[self.winner], self.reason, self.parsed, asked=self.asked)


class Judge(Protocol):
    """Compares two answers to each of many prompts.

    `symmetric` says that exchanging the answers exchanges the verdict, by construction (a score per answer, a
    verifier). A judge that reads both answers in one text is not symmetric and is asked in both orders.

    Some members are optional. `usage: Usage | None` is what the judge has spent. `reads_columns: bool` says that it
    reads other columns of the data too (a reference answer, tests): its `compare` then takes a keyword `columns`, a
    dictionary of lists as long as `prompts`. Whoever has the rows passes them to `ask` or `judge_both_orders`, which
    hand them on to such a judge only (`unveil.cli.judges.data_columns` reads them from the data of a command).
    `require_row(row)` refuses a row without a column that the judge needs, and `check_in()` a judge that cannot be
    asked: `unveil compare` calls both before it loads a model.
    """

    @property
    def name(self) -> str: ...

    @property
    def symmetric(self) -> bool: ...

    def compare(self, prompts: Sequence[str], answers_a: Sequence[str], answers_b: Sequence[str]) -> list[Verdict]:
        """One verdict per prompt, in order."""
        ...


@dataclass(frozen=True)
class BothOrders:
    """Verdicts of a judge that was asked twice about each pair, once in each order.

    verdicts: what both orders agree on, else a tie. a_first, b_first: the verdicts of each order, both in terms of A
    and B (reasons are verbatim, so one given in the second order calls the answers by their places there). What could
    not be read in either order is unparsed.
    """

    verdicts: list[Verdict]
    a_first: list[Verdict]
    b_first: list[Verdict]

    @property
    def favours_first(self) -> float:
        """Share of the judged pairs where the answer read first won in both orders: it is about the judge alone."""
        return self._share(("A", "B"))

    @property
    def favours_second(self) -> float:
        """Share of the judged pairs where the answer read second won in both orders."""
        return self._share(("B", "A"))

    @property
    def position_bias(self) -> float:
        """Share of the judged pairs decided by position alone; 0 for a judge that reads fairly."""
        return self._share(("A", "B"), ("B", "A"))

    def _share(self, *winners: tuple[Winner, Winner]) -> float:
        """Of the pairs judged in both orders, the share whose winners (A first, B first) are among these."""
        orders = zip(self.a_first, self.b_first, strict=True)
        pairs = [(one.winner, other.winner) for one, other in orders if one.judged and other.judged]
        return sum(pair in winners for pair in pairs) / max(1, len(pairs))


def judge_both_orders(
    judge: Judge,
    prompts: Sequence[str],
    answers_a: Sequence[str],
    answers_b: Sequence[str],
    columns: Columns | None = None,
) -> BothOrders:
    """Ask with A first, then with B first; disagreement (a win against a tie too) counts as a tie."""
    a_first = ask(judge, prompts, answers_a, answers_b, columns)
    b_first = [verdict.swapped() for verdict in ask(judge, prompts, answers_b, answers_a, columns)]
    verdicts = []
    for one, other in zip(a_first, b_first, strict=True):
        parsed = one.parsed and other.parsed
        winner: Winner = one.winner if parsed and one.winner == other.winner else "tie"
        reason = f"A first: {_told(one)}. B first: {_told(other)}"
        verdicts.append(Verdict(winner, reason, parsed, asked=one.asked or other.asked))
    return BothOrders(verdicts, a_first, b_first)


def ask(
    judge: Judge,
    prompts: Sequence[str],
    answers_a: Sequence[str],
    answers_b: Sequence[str],
    columns: Columns | None = None,
) -> list[Verdict]:
    """`judge.compare`, with its verdicts checked, and with `columns` for a judge that reads them.

    Raises:
        UserError: so does the judge, or a judge of the user's own raises anything or gives something else.
    """
    more: dict[str, Any] = {"columns": columns or {}} if getattr(judge, "reads_columns", False) else {}
    try:
        verdicts = list(judge.compare(prompts, answers_a, answers_b, **more))
    except UserError:
        raise
    except Exception as error:
        if type(judge).__module__.partition(".")[0] == __name__.partition(".")[0]:
            raise
        told = f"{type(error).__name__} ({whole_text(' '.join(str(error).split()))[:300]})"
        raise UserError(f"judge {judge.name}: its `compare` raised {told}; mend it") from error
    wrong = next((verdict for verdict in verdicts if not isinstance(verdict, Verdict)), None)
    if wrong is not None:
        raise UserError(f"judge {judge.name}: gave a {type(wrong).__name__}, not an unveil.judging.Verdict; mend it")
    if len(verdicts) != len(prompts):
        raise UserError(
            f"judge {judge.name}: gave {len(verdicts)} verdicts for {len(prompts)} prompts; it must give one each"
        )
    return verdicts


def _told(verdict: Verdict) -> str:
    said = verdict.winner if verdict.parsed else "no verdict"
    return f"{said} ({verdict.reason})" if verdict.reason else said
