"""A judge none of whose verdicts could be read: there is no win rate to state, only what it was asked and replied."""

from dataclasses import asdict, dataclass
from typing import Any

from unveil.errors import UserError
from unveil.judging.judgement import Judgement
from unveil.judging.usage import Usage


@dataclass(frozen=True)
class Unread:
    """What stands in the place of a `Comparison` then.

    rows, mean_length_a, mean_length_b, length_ratio, unparsed, equal, asked, usage: as in `Comparison`. first_reply:
    what the judge said that could not be read, of the first pair that it was asked about.
    """

    judge: str
    rows: list[dict[str, Any]]
    mean_length_a: float
    mean_length_b: float
    length_ratio: float | None
    unparsed: int
    equal: int
    asked: int
    first_reply: str
    usage: Usage | None

    def summary(self) -> dict[str, Any]:
        """Everything but the rows, ready for JSON; the win rate is null."""
        return {key: value for key, value in asdict(self).items() if key != "rows"} | {"win_rate": None}

    def describe(self) -> str:
        """One line for people."""
        line = f"{self.judge}: win rate not known: none of {self.asked} verdicts could be read"
        if self.equal:
            line += f"; {self.equal} of {len(self.rows)} pairs had equal answers"
        return line

    def error(self) -> UserError:
        """The same as an error, with the judge's own words and what to do."""
        return UserError(
            f"judge {self.judge}: no verdict could be read from any of its {self.asked} replies, the first of which is "
            f"{_excerpt(self.first_reply)}; correct the template or take another judge"
        )


def is_unread(judgement: Judgement) -> bool:
    """Whether the judge was asked, and nothing of what it was asked could be read."""
    asked = [verdict for verdict in judgement.verdicts if verdict.asked]
    return bool(asked) and not any(verdict.parsed for verdict in asked)


def first_unread_reply(judgement: Judgement) -> str:
    """What the judge said of the first pair without a readable verdict, in the first order that was not read."""
    place = judgement.unparsed[0]
    orders = judgement.orders
    given = [orders.a_first[place], orders.b_first[place]] if orders else [judgement.verdicts[place]]
    return next(verdict.reason for verdict in given if not verdict.parsed)


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 80 else f"{line[:77]}...")
