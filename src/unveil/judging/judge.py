"""What a judge is, and how to ask one that may favour whatever it reads first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from unveil.errors import UserError

Winner = Literal["A", "B", "tie"]
_OUTCOME: dict[Winner, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}
_SWAPPED: dict[Winner, Winner] = {"A": "B", "tie": "tie", "B": "A"}


@dataclass(frozen=True)
class Verdict:
    """Which of two answers is better, and why in the judge's words."""

    winner: Winner
    reason: str = ""

    def __post_init__(self) -> None:
        if self.winner not in get_args(Winner):
            raise ValueError(f"Verdict: the winner is {self.winner!r}; it must be 'A', 'B' or 'tie'")

    @property
    def outcome(self) -> float:
        """1 when A wins, 1/2 for a tie, 0 when B wins."""
        return _OUTCOME[self.winner]

    def swapped(self) -> "Verdict":
        """The same verdict with the names of the answers exchanged."""
        return Verdict(_SWAPPED[self.winner], self.reason)


class Judge(Protocol):
    """Compares two answers to each of many prompts.

    `symmetric` says that exchanging the answers exchanges the verdict, by construction (a score per answer, a
    verifier). A judge that reads both answers in one text is not symmetric and is asked in both orders.
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
    and B (reasons are verbatim, so one given in the second order calls the answers by their places there).
    favours_first, favours_second: shares of the pairs where the answer read first (second) won in both orders, which
    says something about the judge and nothing about the answers.
    """

    verdicts: list[Verdict]
    a_first: list[Verdict]
    b_first: list[Verdict]
    favours_first: float
    favours_second: float

    @property
    def position_bias(self) -> float:
        """Share of the pairs decided by position alone; 0 for a judge that reads fairly."""
        return self.favours_first + self.favours_second


def judge_both_orders(
    judge: Judge, prompts: Sequence[str], answers_a: Sequence[str], answers_b: Sequence[str]
) -> BothOrders:
    """Ask with A first, then with B first; disagreement (a win against a tie too) counts as a tie."""
    a_first = ask(judge, prompts, answers_a, answers_b)
    b_first = [verdict.swapped() for verdict in ask(judge, prompts, answers_b, answers_a)]
    verdicts = []
    for one, other in zip(a_first, b_first, strict=True):
        winner: Winner = one.winner if one.winner == other.winner else "tie"
        verdicts.append(Verdict(winner, f"A first: {_told(one)}. B first: {_told(other)}"))
    pairs = [(one.winner, other.winner) for one, other in zip(a_first, b_first, strict=True)]
    return BothOrders(
        verdicts=verdicts,
        a_first=a_first,
        b_first=b_first,
        favours_first=pairs.count(("A", "B")) / max(1, len(pairs)),
        favours_second=pairs.count(("B", "A")) / max(1, len(pairs)),
    )


def ask(judge: Judge, prompts: Sequence[str], answers_a: Sequence[str], answers_b: Sequence[str]) -> list[Verdict]:
    """`judge.compare`, with the number of verdicts checked."""
    verdicts = judge.compare(prompts, answers_a, answers_b)
    if len(verdicts) != len(prompts):
        raise UserError(
            f"judge {judge.name}: gave {len(verdicts)} verdicts for {len(prompts)} prompts; it must give one each"
        )
    return verdicts


def _told(verdict: Verdict) -> str:
    return f"{verdict.winner} ({verdict.reason})" if verdict.reason else verdict.winner
