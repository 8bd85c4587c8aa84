"""From rows of a file to columns of one type each, with what does not fit told row by row."""

import contextlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import pyarrow as pa

from unveil.data.bad_rows import BadRow
from unveil.data.columns import UNREADABLE
from unveil.data.conversation import join_text_parts
from unveil.data.labels import LABEL, are_usual, spelled
from unveil.errors import UserError, is_text, shortened, warn_user

TEXT_COLUMNS = ("prompt", "completion", "chosen", "rejected", "text")
LIST_COLUMNS = ("completions", "scores", "relevance", "rank", "steps", "step_weights", "spans", "response_ids")
NUMBER_COLUMNS = ("score", "score_chosen", "score_rejected", "margin", "weight", "gap")
KNOWN_COLUMNS = (*TEXT_COLUMNS, *LIST_COLUMNS, *NUMBER_COLUMNS, LABEL, "messages", "example_id")
# A table of more columns costs minutes, and nobody means them all.
MOST_COLUMNS = 1000
_DEEPEST = 100
_MOST_MISFITS = 1000
_NO_TYPE = (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError)


class Faults:
    """Why rows of a file cannot be read: the first raises, or (`keep`) all are noted for whoever reads the rows."""

    def __init__(self, source: str, keep: bool, label_map: Mapping[str, bool] | None = None) -> None:
        self.source = source
        self.keep = keep
        self.label_map = label_map
        self._found: dict[int, tuple[str, BadRow]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, row: int, bad: BadRow, where: str | None = None) -> None:
        """Note (or raise) that `row` cannot be read; `where` is its place in the file."""
        self._found.setdefault(row, (where or f"{self.source}, row {row} (counted from 0)", bad))
        if not self.keep:
            self.refuse(", or leave such rows out with --on_bad_rows drop")

    def refuse(self, otherwise: str = "") -> NoReturn:
        """Raise what is wrong with the first row."""
        where, bad = self._found[min(self._found)]
        raise UserError(f"{where}: {bad}; {bad.remedy}{otherwise}") from bad

    def mark(self, table: pa.Table) -> pa.Table:
        """The table, with reason and remedy of each row that cannot be read in a column of ours, if there are any."""
        if UNREADABLE in table.column_names:
            table = table.drop_columns([UNREADABLE])
        if not self._found:
            return table
        told = {row: f"{bad}\n{bad.remedy}" for row, (_, bad) in self._found.items()}
        reasons = pa.array([told.get(row) for row in range(table.num_rows)], type=pa.string())
        return table.append_column(UNREADABLE, reasons)


def kept_columns(names: Sequence[str], known: Mapping[str, str], source: str) -> list[str]:
    """All names, or of very many those that are `known`, with a warning."""
    if len(names) <= MOST_COLUMNS:
        return list(names)
    kept = [name for name in names if name in known]
    warn_user(
        f"{source}: {len(names)} columns are more than {MOST_COLUMNS}; those that unveil reads are kept "
        f"({', '.join(kept) or 'none'})",
        stacklevel=6,
    )
    return kept


def to_table(rows: list[dict[str, Any]], known: Mapping[str, str], faults: Faults) -> pa.Table:
    """Columns in order of first appearance; a key that a row lacks is null there.

    A column of mixed types is an error if this package reads it (`known`: its name -> what it is read as), else it is
    left out with a warning. Labels of several types become texts, whose meaning is read later; messages lose their
    parts (`join_text_parts`).
    """
    names = kept_columns(list(dict.fromkeys(name for row in rows for name in row)), known, faults.source)
    columns = {}
    for name in names:
        column = _column(name, [row.get(name) for row in rows], known.get(name), faults)
        if column is not None:
            columns[name] = column
    if not columns:
        return pa.table({UNREADABLE: pa.nulls(len(rows), pa.string())})
    return pa.table(columns)


def _column(name: str, values: list[Any], read_as: str | None, faults: Faults) -> pa.Array | None:
    """The values in one type, or None for a column that is left out."""
    if not _is_text(name):
        warn_user(
            f"{faults.source}: the column {shortened(name)} has a name that is no text; it is left out", stacklevel=7
        )
        return None
    if read_as == LABEL:
        values = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    with contextlib.suppress(*_NO_TYPE):
        return pa.array(values)
    values = join_text_parts(values)
    with contextlib.suppress(*_NO_TYPE):
        return pa.array(values)
    if read_as == LABEL and (are_usual(values, faults.label_map) or (faults.keep and _are_scalars(values))):
        with contextlib.suppress(*_NO_TYPE):
            return pa.array([value if value is None or isinstance(value, str) else spelled(value) for value in values])
    if read_as is not None:
        return _without_misfits(name, values, faults)
    row = _first_misfit(values)
    warn_user(
        f"{faults.source}, row {row} (counted from 0): {_misfit(name, values[row])}; the column is left out",
        stacklevel=7,
    )
    return None


def _are_scalars(values: list[Any]) -> bool:
    return all(value is None or isinstance(value, bool | int | float | str) for value in values) and not any(
        _is_huge(value) for value in values
    )


def _without_misfits(name: str, values: list[Any], faults: Faults) -> pa.Array:
    """The column with null where a value is not of the kind of most; those rows are noted as faults."""

    def leave_out(row: int) -> None:
        broken = not _is_text(values[row]) or _is_huge(values[row])
        faults.add(row, BadRow(_misfit(name, values[row]), "correct it" if broken else "give the column one type"))
        values[row] = None

    if not faults.keep:
        leave_out(_first_misfit(values))
    usual = Counter(_kind(value) for value in values if value is not None).most_common(1)[0][0]
    for row, value in enumerate(values):
        if value is not None and (_kind(value) != usual or not _is_text(value) or _is_huge(value)):
            leave_out(row)
    for _ in range(_MOST_MISFITS):
        with contextlib.suppress(*_NO_TYPE):
            return pa.array(values)
        leave_out(_first_misfit(values))
    raise UserError(f"{faults.source}: the column {name!r} has no type that its rows share; give it one")


def _misfit(name: str, value: Any) -> str:
    found = f"column {name!r} holds {shortened(value)} ({type(value).__name__})"
    if not _is_text(value):
        return f"{found}, which is not valid text (half of a surrogate pair)"
    if _is_huge(value):
        return f"{found}, a number that is too large"
    return f"{found}, which does not fit the rows before it"


def _kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _is_text(value: Any) -> bool:
    """Whether every text in `value` can be written down."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if not is_text(one):
                return False
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
    return True


def too_deep(value: list[Any] | dict[str, Any], brackets: int) -> bool:
    """Whether lists and objects stand in one another more than `_DEEPEST` times; `brackets` open in its text."""
    if brackets <= _DEEPEST:
        return False
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        parts = [part for whole in level for part in (whole.values() if isinstance(whole, dict) else whole)]
        level = [part for part in parts if isinstance(part, dict | list)]
        if not level:
            return False
    return True


def _first_misfit(values: list[Any]) -> int:
    """Smallest i such that `values[: i + 1]` has no Arrow type (bisection: prefixes of good prefixes are good)."""
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        try:
            pa.array(values[: middle + 1])
            low = middle + 1
        except _NO_TYPE:
            high = middle
    return low
