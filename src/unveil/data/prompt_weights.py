"""The column `weight`: what a row counts in the loss. Where it is one, how rows that are joined share it, rows of 0.

A row of weight 2 pulls as hard as the row twice, one of weight 0 as if it were not there. An answer or a pair that is
made of several rows counts their mean.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from datasets import Dataset

from unveil.data.columns import EXAMPLE_ID, column
from unveil.errors import UserError, name_rows, warn_user

WEIGHT = "weight"

Row = dict[str, Any]


def weight_column(dataset: Dataset, source: str) -> tuple[str, ...]:
    """`("weight",)` where the rows have one of numbers. A column of that name which holds none is told once."""
    if WEIGHT not in dataset.column_names:
        return ()
    kind = column(dataset, WEIGHT).type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return (WEIGHT,)
    if not pa.types.is_null(kind):
        warn_user(
            f"{source}: the column {WEIGHT} holds {kind} and no numbers, so that every row counts alike", stacklevel=4
        )
    return ()


def tell_of_idle_weight(dataset: Dataset, source: str) -> None:
    """Warn where rows are only imitated, which has no weights."""
    if weight_column(dataset, source):
        warn_user(
            f"{source}: the column {WEIGHT} has no effect here, every row counts alike; `unveil train --objective sft` "
            "obeys it",
            stacklevel=4,
        )


def shared_weight(rows: Iterable[Row]) -> Row:
    """`{"weight": mean}` of rows that become one, else nothing."""
    weights = [row[WEIGHT] for row in rows if WEIGHT in row]
    return {WEIGHT: sum(weights) / len(weights)} if weights else {}


def without_weightless(rows: Dataset, source: str) -> Dataset:
    """The rows that count. Those of weight 0 are left out and named; `UserError` if none is left."""
    if WEIGHT not in rows.column_names:
        return rows
    weights: Sequence[float] = rows.with_format(None)[WEIGHT][:]
    idle = [place for place, weight in enumerate(weights) if weight == 0]
    if not idle:
        return rows
    if len(idle) == len(rows):
        raise UserError(
            f"{source}: every row has the weight 0, so that nothing is left to learn from; correct the column"
        )
    names = rows[EXAMPLE_ID]
    warn_user(
        f"{source}: {len(idle)} of {len(rows)} rows have the weight 0 ({EXAMPLE_ID} "
        f"{name_rows([names[place] for place in idle])}); they are left out",
        stacklevel=4,
    )
    return rows.select([place for place, weight in enumerate(weights) if weight != 0])
