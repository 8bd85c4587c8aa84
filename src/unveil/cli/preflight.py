"""What `unveil compare` makes sure of before it loads a model: that its judges will be able to judge."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from unveil.cli.judges import data_columns
from unveil.cli.options import HeldOutArguments
from unveil.errors import UserError
from unveil.judging import Judge
from unveil.judging.columns import rows_of
from unveil.judging.judge import Columns


def columns_for(judges: Sequence[Judge], data: HeldOutArguments, rows: Dataset) -> list[Columns | None]:
    """The columns that each judge reads (None: it reads none), one value per row of `rows`.

    Raises:
        UserError: a row lacks a column that a judge needs, or an endpoint cannot be used. With --on_bad_rows drop a
            row may yet be left out, so only what no row has is refused.
    """
    found: list[Columns | None] = [data_columns(judge, data, rows) for judge in judges]
    for judge, columns in zip(judges, found, strict=True):
        require: Any = getattr(judge, "require_row", None)
        if require is not None and columns is not None:
            _require_rows(require, rows_of(columns, len(rows)), every=data.on_bad_rows != "drop")
    for judge in judges:
        check_in: Any = getattr(judge, "check_in", None)
        if check_in is not None:
            check_in()
    return found


def _require_rows(require: Any, rows: Sequence[dict[str, Any]], every: bool) -> None:
    """Refuse the first row that is at fault: with `every` at once, else only if no row is without fault."""
    first: UserError | None = None
    for place, row in enumerate(rows):
        try:
            require(row)
        except UserError as error:
            first = first or UserError(f"{error} (prompt {place})")
            if every:
                break
        else:
            if not every:
                return
    if first:
        raise first
