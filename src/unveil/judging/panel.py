"""Several judges that vote. Each vote is kept, so that the agreement between the judges can be told."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

from unveil.errors import UserError
from unveil.judging.judge import Columns, Judge, Verdict, Winner, ask, judge_both_orders
from unveil.judging.usage import Usage

Vote = Literal["majority", "mean"]


@dataclass(frozen=True)
class PanelVerdict(Verdict):
    """A verdict with the votes that it comes from, in the order of the members."""

    votes: tuple[Verdict, ...] = ()

    def swapped(self) -> "PanelVerdict":
        """The same verdict and votes with the names of the answers exchanged."""
        plain = super().swapped()
        votes = tuple(vote.swapped() for vote in self.votes)
        return PanelVerdict(plain.winner, plain.reason, plain.parsed, votes, asked=plain.asked)


@dataclass(frozen=True)
class Panel:
    """Asks every member, those that are not symmetric in both orders, so that the panel itself is symmetric.

    vote: "majority", who has more than half of the votes wins, else it is a tie; or "mean", a tie counts as half a
    vote for each and more than half wins. Votes that could not be read are left out; if none is left, the verdict is
    unparsed. A pair was asked about if a member was asked about it.
    """

    members: Sequence[Judge]
    vote: Vote = "majority"

    def __post_init__(self) -> None:
        if not self.members:
            raise UserError("panel: has no members; name at least one judge")
        if self.vote not in ("majority", "mean"):
            raise UserError(f"--judge_vote {self.vote}: unknown; give majority or mean")

    @property
    def name(self) -> str:
        """The names of the members."""
        return f"panel of {', '.join(member.name for member in self.members)}"

    @property
    def symmetric(self) -> bool:
        """True: members that are not are asked in both orders."""
        return True

    @property
    def reads_columns(self) -> bool:
        """Whether a member does."""
        return any(getattr(member, "reads_columns", False) for member in self.members)

    @property
    def usage(self) -> Usage | None:
        """What the members have spent together; None if none of them spends."""
        spent = [usage for member in self.members if (usage := getattr(member, "usage", None)) is not None]
        return reduce(lambda one, other: one + other, spent) if spent else None

    def compare(
        self,
        prompts: Sequence[str],
        answers_a: Sequence[str],
        answers_b: Sequence[str],
        columns: Columns | None = None,
    ) -> list[Verdict]:
        """One `PanelVerdict` per prompt."""
        ballots = []
        for member in self.members:
            if member.symmetric:
                ballots.append(ask(member, prompts, answers_a, answers_b, columns))
            else:
                ballots.append(judge_both_orders(member, prompts, answers_a, answers_b, columns).verdicts)
        return [self._verdict(votes) for votes in zip(*ballots, strict=True)]

    def _verdict(self, votes: tuple[Verdict, ...]) -> Verdict:
        counted = [vote for vote in votes if vote.parsed]
        said = ", ".join(
            f"{member.name}: {vote.winner if vote.parsed else 'no verdict'}"
            for member, vote in zip(self.members, votes, strict=True)
        )
        winner: Winner = "tie"
        for side in ("A", "B"):
            share = sum(vote.winner == side for vote in counted)
            if self.vote == "mean":
                share += sum(vote.winner == "tie" for vote in counted) / 2
            if 2 * share > len(counted):
                winner = side
        return PanelVerdict(winner, said, bool(counted), votes, asked=any(vote.asked for vote in votes))
