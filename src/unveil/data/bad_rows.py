"""Rows that cannot be used: named in an error, or counted and left out with a warning. Never skipped silently."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from unveil.errors import UserError, name_rows, warn_user

OnBadRows = Literal["error", "drop"]

_LONGEST_REASON, _MOST_KINDS = 200, 6
# What makes two reasons of one kind differ: quoted text, lists, numbers.
_VALUE = re.compile(r"'(?:[^'\\]|\\.)*'|\[[^\]]*\]|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


class BadRow(Exception):  # noqa: N818 (a finding about one row, collected by `BadRows`; users never see it)
    """One row cannot be used; `str()` is the reason, `remedy` what would make it usable, `also` what else is wrong."""

    def __init__(self, reason: str, remedy: str = "correct or remove them", also: Sequence["BadRow"] = ()):
        super().__init__(reason)
        self.remedy = remedy
        self.also = tuple(also)


def all_of(*reads: Callable[[], Any]) -> list[Any]:
    """What each of them reads; if some raise `BadRow`, one that names the faults of all."""
    found: list[Any] = []
    bad: list[BadRow] = []
    for read in reads:
        try:
            found.append(read())
        except BadRow as one:
            bad += [one, *one.also]
    if bad:
        raise BadRow(str(bad[0]), bad[0].remedy, bad[1:])
    return found


@dataclass
class Fault:
    """One kind of fault: what is said of the first row that has it, the remedy, and all rows that have it."""

    reason: str
    remedy: str
    rows: list[int] = field(default_factory=list)
    varies: bool = False
    """Whether other rows have the same fault with another value."""

    def describe(self) -> str:
        """The reason, for a message about all of the rows."""
        return f"{self.reason}, and the like" if self.varies else self.reason


class BadRows:
    """Collects the unusable rows of one data set, by kind of fault, until `settle` refuses or drops them.

    `source` is the name of the file or flag, `unit` what the numbers are: rows counted from 0, or example ids.
    """

    def __init__(self, source: str, on_bad_rows: OnBadRows, unit: Literal["row", "example_id"] = "row"):
        if on_bad_rows not in get_args(OnBadRows):
            raise UserError(f"--on_bad_rows {on_bad_rows}: unknown choice; use error or drop")
        self.source = source
        self.on_bad_rows = on_bad_rows
        self.unit = unit
        self._faults: dict[str, Fault] = {}

    @property
    def faults(self) -> list[Fault]:
        """What was noted, one entry per kind, in the order of the first row."""
        return list(self._faults.values())

    def add(self, row: int, bad: BadRow) -> None:
        """Note that `row` cannot be used."""
        for one in (bad, *bad.also):
            reason = str(one)
            if len(reason) > _LONGEST_REASON:
                reason = f"{reason[: _LONGEST_REASON - 3]}..."
            fault = self._faults.setdefault(_VALUE.sub("_", reason), Fault(reason, one.remedy))
            fault.varies |= fault.reason != reason
            fault.rows.append(row)

    @property
    def rows(self) -> set[int]:
        """All rows that cannot be used."""
        return {row for fault in self.faults for row in fault.rows}

    def settle(self, total: int) -> None:
        """Say what happens with the rows noted, `total` being the number of rows looked at.

        Raises `UserError` if `on_bad_rows` is "error" or if no row is left; warns with names and counts otherwise.
        """
        faults = self.faults
        if not faults:
            return
        dropped = len(self.rows)
        kind = "rows, from 0:" if self.unit == "row" else "example_id"
        reasons = ", ".join(f"{one.describe()} ({kind} {name_rows(one.rows)})" for one in faults[:_MOST_KINDS])
        if len(faults) > _MOST_KINDS:
            reasons += f", and {len(faults) - _MOST_KINDS} other kinds of fault (`unveil inspect data` lists all)"
        found = f"{self.source}: {dropped} of {total} rows cannot be used: {reasons}"
        remedies = ", or ".join(dict.fromkeys(fault.remedy for fault in faults[:_MOST_KINDS]))
        if self.on_bad_rows == "error":
            raise UserError(f"{found}; {remedies}, or leave them out with --on_bad_rows drop")
        if dropped == total:
            raise UserError(f"{found}, so that --on_bad_rows drop leaves nothing; {remedies}")
        warn_user(f"{found}; they are left out", stacklevel=4)
