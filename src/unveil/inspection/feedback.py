"""All faults of a data set in one look: the readers of training on every row, with nothing refused or dropped."""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from unveil.data.bad_rows import BadRows, Fault
from unveil.data.columns import rename_columns
from unveil.data.formats import (
    PROMPT_COMPLETION,
    UNPAIRED,
    collect_rows,
    read_conversation,
    read_prompt_alone,
    read_prompt_completion,
    read_text,
    read_thumb,
    with_labels,
)
from unveil.data.grouping import prompt_key
from unveil.data.groups import CANDIDATES_PER_ROW, list_reader, pair_reader, read_graded, span_reader
from unveil.data.labels import label_values, labels_of
from unveil.data.prompt_weights import weight_column
from unveil.data.shapes import GRADED, call, find_shape, shape_of
from unveil.errors import UserInputWarning, name_rows

Row = dict[str, Any]

# What is no feedback: its columns, what it is called, and what reads it.
_OTHER: tuple[tuple[tuple[str, ...], str, Callable[[Row, int], Row]], ...] = (
    (PROMPT_COMPLETION, "answers without feedback (prompt, completion)", read_prompt_completion),
    (("messages",), "conversations (messages)", read_conversation),
    (("text",), "texts (text)", read_text),
    (("prompt",), "prompts (prompt)", read_prompt_alone),
)


@dataclass(frozen=True)
class Inspection:
    """What a data set holds.

    form: what it is read as, with its columns. usable: rows without a fault. labels: rows by label, of thumbs. notes:
    what is usable and worth knowing, one sentence each.
    """

    source: str
    form: str
    rows: int
    usable: int
    faults: list[Fault]
    labels: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether every row can be used."""
        return self.usable == self.rows

    def summary(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "data": self.source,
            "format": self.form,
            "rows": self.rows,
            "usable": self.usable,
            "sound": self.sound,
            "labels": self.labels,
            "faults": [
                {"fault": one.describe(), "count": len(one.rows), "rows": one.rows, "remedy": one.remedy}
                for one in self.faults
            ],
            "notes": self.notes,
        }


def inspect_rows(
    dataset: Dataset,
    source: str,
    *,
    column_map: Mapping[str, str] | None = None,
    label_map: Mapping[str, bool] | None = None,
) -> Inspection:
    """Read every row of `load_rows(..., on_bad_rows="drop")` as training would, and note what is wrong with it.

    Raises `UserError` where the columns make no format.
    """
    with warnings.catch_warnings(record=True, action="always") as said:
        dataset = rename_columns(dataset, column_map, source)
        form, columns, read, ids_per_row = _reader(dataset, source, label_map)
        if "label" in columns:
            dataset = with_labels(dataset)
        bad_rows = BadRows(source, "drop")
        rows = collect_rows(dataset, columns, source, bad_rows, read, ids_per_row)
    notes = [str(one.message).removeprefix(f"{source}: ") for one in said if one.category is UserInputWarning]
    labels: Counter[str] = Counter()
    if "label" in columns:
        labels.update("up" if row["label"] else "down" for row in rows)
        if (meaning := labels_of(label_values(dataset), label_map).describe()) is not None:
            notes.append(meaning)
        if len(labels) == 1:
            notes.append(f"every thumb is {next(iter(labels))}, and learning from thumbs needs both")
    return Inspection(source, form, len(dataset), len(rows), bad_rows.faults, dict(labels), notes + _doubles(rows))


def _reader(
    dataset: Dataset, source: str, label_map: Mapping[str, bool] | None
) -> tuple[str, tuple[str, ...], Callable[[Row, int], Row], int]:
    """(what the data are called, columns to read, what reads them, ids per row)."""
    shape = find_shape(dataset)
    if shape is None:
        for columns, called, read in _OTHER:
            if set(columns) <= set(dataset.column_names):
                return called, columns, read, 1
        shape = shape_of(dataset, source)  # says what is missing
    if shape == "unpaired":
        labels = labels_of(label_values(dataset), label_map)
        return call(shape), (*UNPAIRED, *weight_column(dataset, source)), read_thumb(labels), 1
    if shape == "pairs":
        return call(shape), *pair_reader(dataset, source), 2
    if shape == "lists":
        return call(shape), *list_reader(dataset, source), CANDIDATES_PER_ROW
    if shape == "spans":
        return call(shape), *span_reader(dataset, source), 1
    return call(shape), (*GRADED, *weight_column(dataset, source)), read_graded, 1


def _doubles(rows: list[Row]) -> list[str]:
    """Rows that repeat another one, and rows that contradict one: the same answers with other feedback."""
    first: dict[tuple[str, ...], Any] = {}
    twice: list[int] = []
    torn: list[int] = []
    for row in rows:
        answers, feedback = _said(row)
        key = (prompt_key(row.get("prompt", "")), *answers)
        if first.setdefault(key, feedback) != feedback:
            torn.append(row["row"])
        elif first[key] is not feedback:
            twice.append(row["row"])
    notes = []
    if twice:
        notes.append(f"{len(twice)} rows repeat an earlier one (rows, from 0: {name_rows(twice)})")
    if torn:
        notes.append(
            f"{len(torn)} rows contradict an earlier one on the same answers (rows, from 0: {name_rows(torn)})"
        )
    return notes


def _said(row: Row) -> tuple[list[str], list[Any]]:
    """Answers in an order of their own, and what was said of each."""
    texts = row.get("completions") or [row.get("completion", "")]
    feedback = row.get("relevance") or [row.get("label", row.get("score"))]
    spans = [str(span) for span in row.get("spans", [""] * len(texts))]
    order = sorted(range(len(texts)), key=lambda place: (texts[place], spans[place]))
    return [texts[place] + spans[place] for place in order], [feedback[place] for place in order]
