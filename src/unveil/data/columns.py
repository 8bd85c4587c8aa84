"""Columns of a data set: the user's names mapped to ours, missing ones explained, row numbers made stable."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
from datasets import Dataset

from unveil.errors import UserError, name_rows

EXAMPLE_ID = "example_id"


def rename_columns(dataset: Dataset, column_map: Mapping[str, str] | None, source: str) -> Dataset:
    """Apply `{"kto_tag": "label"}`: the file's name on the left, unveil's name on the right. Nothing is guessed."""
    if not column_map:
        return dataset.with_format(None)
    for theirs, ours in column_map.items():
        if theirs not in dataset.column_names:
            raise UserError(
                f"{source}: --column_map {theirs}={ours}: there is no column {theirs!r}; "
                f"the columns are {_listed(dataset.column_names)}"
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
        f"{source}: no column {_listed(missing)}; the columns are {_listed(dataset.column_names)}, needed are "
        f"{wanted}; name the right one with --column_map YOUR_COLUMN={missing[0]}"
    )


def example_ids(dataset: Dataset, source: str) -> list[int]:
    """One unique integer >= 0 per row: the column `example_id` if there is one, else the row number (from 0).

    The id seeds the draws of its row, so it must survive filtering, shuffling and subsampling unchanged.
    """
    if EXAMPLE_ID not in dataset.column_names:
        return list(range(len(dataset)))
    ids = dataset[EXAMPLE_ID][:]
    first_row: dict[int, int] = {}
    for row, value in enumerate(ids):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UserError(
                f"{source}, row {row} (counted from 0): example_id is {value!r}, it must be an integer >= 0; "
                f"correct, rename or remove the column"
            )
        first_row.setdefault(value, row)
    if len(first_row) < len(ids):
        twice = sorted({row for row, value in enumerate(ids) if first_row[value] != row})
        raise UserError(
            f"{source}: example_id occurs more than once (rows {name_rows(twice)}, counted from 0); "
            f"make it unique, rename or remove the column"
        )
    return ids


def read_label(value: Any, row: int, source: str) -> bool:
    """A label is true or false. 0, 1, "true" and null are refused: what they mean is for the user to say."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if value is None:
        remedy = "give every row a label, or remove the rows without"
    elif isinstance(value, str):
        remedy = "write true or false, without quotes"
    elif isinstance(value, int | float | np.number):
        remedy = "write true for desirable and false for undesirable"
    else:
        remedy = "write true or false"
    raise UserError(
        f"{source}, row {row} (counted from 0): label is {value!r} ({type(value).__name__}), not a boolean; {remedy}"
    )


def column(dataset: Dataset, name: str) -> pa.ChunkedArray:
    """One column as Arrow values, in the order of the rows."""
    table = cast(pa.Table, dataset.select_columns([name]).with_format("arrow")[:])
    return table[name]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
