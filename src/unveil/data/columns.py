"""Columns of a data set: the user's names mapped to ours, missing ones explained, row numbers made stable."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pyarrow as pa
from datasets import Dataset

from unveil.errors import UserError, name_rows, name_some, shortened, warn_user

EXAMPLE_ID = "example_id"
# Ours, which travels beside the user's columns: why a row of a file could not be read, null for all others.
UNREADABLE = "unveil:unreadable"
_LARGEST_ID = 2**63 - 1


def own_columns(dataset: Dataset) -> list[str]:
    """The columns that the user gave."""
    return [name for name in dataset.column_names if name != UNREADABLE]


def rename_columns(dataset: Dataset, column_map: Mapping[str, str] | None, source: str) -> Dataset:
    """Apply `{"kto_tag": "label"}`: the file's name on the left, unveil's name on the right. Nothing is guessed."""
    if not column_map:
        return dataset.with_format(None)
    for theirs, ours in column_map.items():
        if theirs not in dataset.column_names:
            raise UserError(
                f"{source}: --column_map {theirs}={ours}: there is no column {theirs!r}; "
                f"the columns are {name_some(own_columns(dataset))}"
            )
        if ours in dataset.column_names and ours not in column_map:
            raise UserError(
                f"{source}: --column_map {theirs}={ours}: there is a column {ours!r} already; "
                f"map that one to another name as well"
            )
    if len(set(column_map.values())) < len(column_map):
        raise UserError(f"{source}: --column_map gives two columns the same name; give each its own")
    return dataset.with_format(None).rename_columns(dict(column_map))


def require_columns(dataset: Dataset, formats: Sequence[Sequence[str]], source: str) -> None:
    """Raise `UserError` unless all columns of one of `formats` are there; the first format is the one explained."""
    present = set(dataset.column_names)
    if any(present >= set(needed) for needed in formats):
        return
    closest = max(formats, key=lambda needed: len(present & set(needed)) / len(needed))
    missing = [name for name in closest if name not in present]
    wanted = " or ".join(" + ".join(needed) for needed in formats)
    raise UserError(
        f"{source}: no column {name_some(missing)}; the columns are {name_some(own_columns(dataset))}, needed are "
        f"{wanted}; name the right one with --column_map YOUR_COLUMN={missing[0]}"
    )


def example_ids(dataset: Dataset, source: str, ids_per_row: int = 1) -> list[int]:
    """One unique integer >= 0 per row: the column `example_id` where it can serve, else the row number (from 0).

    The id seeds the draws of its row, so it must survive filtering, shuffling and subsampling unchanged. A column of
    that name that holds something else (texts, an id twice, `ids_per_row` of which do not fit into 64 bits) is the
    user's own and is left alone, with a warning.
    """
    numbers = list(range(len(dataset)))
    if EXAMPLE_ID not in dataset.column_names:
        return numbers
    ids = dataset[EXAMPLE_ID][:]
    unfit = _unfit_for_ids(ids, _LARGEST_ID // ids_per_row)
    if unfit is None:
        return ids
    warn_user(
        f"{source}: the column {EXAMPLE_ID} is left alone and rows go by their number, since {unfit}", stacklevel=5
    )
    return numbers


def _unfit_for_ids(ids: Sequence[Any], limit: int) -> str | None:
    """Why these cannot name rows, or None if they can."""
    first_row: dict[int, int] = {}
    for row, value in enumerate(ids):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            return f"it holds {shortened(value)} (row {row}, counted from 0), which is no integer of at least 0"
        if value >= limit:
            return f"it holds {value} (row {row}, counted from 0), and ids must be below {limit}"
        first_row.setdefault(value, row)
    if len(first_row) < len(ids):
        twice = [row for row, value in enumerate(ids) if first_row[value] != row]
        return f"it holds an id more than once (rows {name_rows(twice)}, counted from 0)"
    return None


def column(dataset: Dataset, name: str) -> pa.ChunkedArray:
    """One column as Arrow values, in the order of the rows."""
    table = cast(pa.Table, dataset.select_columns([name]).with_format("arrow")[:])
    return table[name]
