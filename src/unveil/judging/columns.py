"""Columns of the data, row by row, for judges that read more than prompts and answers."""

from typing import Any

from unveil.errors import UserError
from unveil.judging.judge import Columns


def rows_of(columns: Columns | None, count: int) -> list[dict[str, Any]]:
    """One dictionary per prompt.

    Raises:
        UserError: a column with another number of values.
    """
    given = columns or {}
    for name, values in given.items():
        if len(values) != count:
            raise UserError(f"judge: column {name} has {len(values)} values for {count} prompts; give one each")
    return [{name: values[place] for name, values in given.items()} for place in range(count)]


def value_of(row: dict[str, Any], names: tuple[str, ...], judge: str) -> Any:
    """The first of these columns that the row has.

    Raises:
        UserError: it has none of them.
    """
    for name in names:
        if row.get(name) is not None:
            return row[name]
    known = ", ".join(sorted(row)) or "none beside the prompt"
    wanted = " or ".join(names)
    raise UserError(f"judge {judge}: needs the column {wanted}, there is {known}; name yours with --judge_reference")
