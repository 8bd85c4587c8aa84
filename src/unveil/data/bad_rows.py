"""Rows that cannot be used: named in an error, or counted and left out with a warning. Never skipped silently."""

from typing import Literal, get_args

from unveil.errors import UserError, name_rows, warn_user

OnBadRows = Literal["error", "drop"]


class BadRow(Exception):  # noqa: N818 (a finding about one row, collected by `BadRows`; users never see it)
    """One row cannot be used; `str()` is the reason, `remedy` what would make it usable."""

    def __init__(self, reason: str, remedy: str = "correct or remove them"):
        super().__init__(reason)
        self.remedy = remedy


class BadRows:
    """Collects the unusable rows of one data set, by reason, until `settle` refuses or drops them.

    `source` is the name of the file or flag, `unit` what the numbers are: rows counted from 0, or example ids.
    """

    def __init__(self, source: str, on_bad_rows: OnBadRows, unit: Literal["row", "example_id"] = "row"):
        if on_bad_rows not in get_args(OnBadRows):
            raise UserError(f"--on_bad_rows {on_bad_rows}: unknown choice; use error or drop")
        self.source = source
        self.on_bad_rows = on_bad_rows
        self.unit = unit
        self._rows_by_reason: dict[str, list[int]] = {}
        self._remedies: dict[str, None] = {}

    def add(self, row: int, bad: BadRow) -> None:
        """Note that `row` cannot be used."""
        self._rows_by_reason.setdefault(str(bad), []).append(row)
        self._remedies.setdefault(bad.remedy)

    def settle(self, total: int) -> None:
        """Say what happens with the rows noted, `total` being the number of rows looked at.

        Raises `UserError` if `on_bad_rows` is "error" or if no row is left; warns with names and counts otherwise.
        """
        if not self._rows_by_reason:
            return
        dropped = sum(len(rows) for rows in self._rows_by_reason.values())
        kind = "rows, from 0:" if self.unit == "row" else "example_id"
        reasons = ", ".join(f"{reason} ({kind} {name_rows(rows)})" for reason, rows in self._rows_by_reason.items())
        found = f"{self.source}: {dropped} of {total} rows cannot be used: {reasons}"
        remedies = ", or ".join(self._remedies)
        if self.on_bad_rows == "error":
            raise UserError(f"{found}; {remedies}, or leave them out with --on_bad_rows drop")
        if dropped == total:
            raise UserError(f"{found}, so that --on_bad_rows drop leaves nothing; {remedies}")
        warn_user(f"{found}; they are left out", stacklevel=4)
