"""The row formats: thumbs (unpaired), pairs, SFT and prompts, each brought to one shape and checked.

Column names are those of TRL. In every result `prompt` is a string or a list of messages as given, `completion`
is a string, and `example_id` says which row it came from: row i of the data as loaded (or its own `example_id`),
for a pair 2i (chosen) and 2i+1 (rejected).
"""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Dataset

from unveil.data.bad_rows import BadRow, BadRows, OnBadRows, all_of
from unveil.data.candidates import read_weight
from unveil.data.columns import EXAMPLE_ID, UNREADABLE, example_ids, rename_columns, require_columns
from unveil.data.conversation import (
    Prompt,
    read_completion,
    read_prompt,
    split_common_start,
    split_messages,
)
from unveil.data.labels import LABEL, Labels, label_values, labels_of
from unveil.data.prompt_weights import shared_weight, weight_column
from unveil.errors import UserError, name_rows, warn_user

UNPAIRED = ("prompt", "completion", "label")
IMPLICIT_PAIR = ("chosen", "rejected")
PAIRED = ("prompt", *IMPLICIT_PAIR)
PROMPT_COMPLETION = ("prompt", "completion")


def unpaired_rows(
    dataset: Dataset,
    source: str,
    *,
    column_map: Mapping[str, str] | None = None,
    on_bad_rows: OnBadRows = "error",
    allow_one_label: bool = False,
    label_map: Mapping[str, bool] | None = None,
) -> Dataset:
    """Columns `example_id`, `prompt`, `completion`, `label` (True = desirable), and `weight` where the rows have one.

    From `prompt, completion, label`, or from `prompt, chosen, rejected` (without `prompt`, the common start of both
    is the prompt). A bad half makes the whole pair bad. Labels that are no booleans are read as `unveil.data.labels`
    says (with a warning that tells how), or by `label_map`. Raises `UserError` for missing columns, bad rows (unless
    `on_bad_rows="drop"`), labels without a meaning among them, and for data with one label only (unless
    `allow_one_label`).
    """
    dataset = rename_columns(dataset, column_map, source)
    require_columns(dataset, (UNPAIRED, PAIRED, IMPLICIT_PAIR), source)
    weight = weight_column(dataset, source)
    if set(UNPAIRED) <= set(dataset.column_names):
        labels = labels_of(label_values(dataset), label_map)
        rows = read_rows(with_labels(dataset), (*UNPAIRED, *weight), source, on_bad_rows, read_thumb(labels))
        if said := labels.describe():
            warn_user(f"{source}: {said}")
    else:
        columns = tuple(name for name in PAIRED if name in dataset.column_names)
        pairs = read_rows(dataset, (*columns, *weight), source, on_bad_rows, _read_weighted_pair, ids_per_row=2)
        _warn_of_identical_pairs(pairs, source)
        rows = [half for pair in pairs for half in _unpair(pair)]
    return one_label_refused(to_dataset(rows, (EXAMPLE_ID, *UNPAIRED, *weight), source), source, allow_one_label)


def one_label_refused(thumbs: Dataset, source: str, allow_one_label: bool) -> Dataset:
    """The thumbs; `UserError` if all have one label (unless `allow_one_label`)."""
    labels = set(thumbs["label"])
    if len(labels) == 1 and not allow_one_label:
        raise UserError(
            f"{source}: every label is {str(labels.pop()).lower()}, and learning from thumbs up and down needs both; "
            f"add rows with the other label, or give --allow_one_label"
        )
    return thumbs


def sft_rows(
    dataset: Dataset,
    source: str,
    *,
    column_map: Mapping[str, str] | None = None,
    on_bad_rows: OnBadRows = "error",
    label_map: Mapping[str, bool] | None = None,
) -> Dataset:
    """Columns `example_id`, `prompt`, `completion`.

    Labels are no part of it: a warning counts those that say no. From `prompt, completion`; else `messages` (the last
    one, the assistant's, is the completion); else `text` (all of it is the completion, the prompt is "").
    """
    dataset = rename_columns(dataset, column_map, source)
    require_columns(dataset, (PROMPT_COMPLETION, ("messages",), ("text",)), source)
    if set(PROMPT_COMPLETION) <= set(dataset.column_names):
        _warn_of_labels(dataset, source, label_map)
        rows = read_rows(dataset, PROMPT_COMPLETION, source, on_bad_rows, read_prompt_completion)
    elif "messages" in dataset.column_names:
        rows = read_rows(dataset, ("messages",), source, on_bad_rows, read_conversation)
    else:
        rows = read_rows(dataset, ("text",), source, on_bad_rows, read_text)
    return to_dataset(rows, (EXAMPLE_ID, *PROMPT_COMPLETION), source)


def prompt_rows(
    dataset: Dataset,
    source: str,
    *,
    column_map: Mapping[str, str] | None = None,
    on_bad_rows: OnBadRows = "error",
) -> Dataset:
    """Columns `example_id`, `prompt`, for generating answers. Pairs without `prompt` give their common start."""
    dataset = rename_columns(dataset, column_map, source)
    require_columns(dataset, (("prompt",), IMPLICIT_PAIR), source)
    if "prompt" in dataset.column_names:
        rows = read_rows(dataset, ("prompt",), source, on_bad_rows, read_prompt_alone)
    else:
        rows = read_rows(dataset, IMPLICIT_PAIR, source, on_bad_rows, read_pair)
    return to_dataset(rows, (EXAMPLE_ID, "prompt"), source)


Row = dict[str, Any]


def read_rows(
    dataset: Dataset,
    columns: tuple[str, ...],
    source: str,
    on_bad_rows: OnBadRows,
    read: Callable[[Row, int], Row],
    ids_per_row: int = 1,
) -> list[Row]:
    """`read(row, row_number)` of every row, with its `example_id`; rows that raise `BadRow` are settled."""
    bad_rows = BadRows(source, on_bad_rows)
    rows = collect_rows(dataset, columns, source, bad_rows, read, ids_per_row)
    bad_rows.settle(len(dataset))
    return rows


def collect_rows(
    dataset: Dataset,
    columns: tuple[str, ...],
    source: str,
    bad_rows: BadRows,
    read: Callable[[Row, int], Row],
    ids_per_row: int = 1,
) -> list[Row]:
    """As `read_rows`, with the rows that cannot be used noted in `bad_rows`, for the caller to settle."""
    if len(dataset) == 0:
        raise UserError(f"{source}: there are no rows; give at least one")
    ids = example_ids(dataset, source, ids_per_row)
    marks = dataset[UNREADABLE][:] if UNREADABLE in dataset.column_names else []
    unreadable = {number: mark for number, mark in enumerate(marks) if mark is not None}
    rows = []
    for number, row in enumerate(dataset.select_columns(list(columns))):
        try:
            if number in unreadable:
                raise BadRow(*unreadable[number].split("\n", 1))
            rows.append({EXAMPLE_ID: ids[number], "row": number, **read(dict(row), number)})
        except BadRow as bad:
            bad_rows.add(number, bad)
    return rows


def with_labels(dataset: Dataset) -> Dataset:
    """The data with class labels as their names."""
    if not isinstance(dataset.features[LABEL], ClassLabel):
        return dataset
    return dataset.remove_columns(LABEL).add_column(LABEL, list(label_values(dataset)))  # pyright: ignore[reportCallIssue]


def read_thumb(labels: Labels) -> Callable[[Row, int], Row]:
    def read(row: Row, number: int) -> Row:
        label, texts, weight = all_of(
            lambda: labels.read(row[LABEL]), lambda: read_prompt_completion(row, number), lambda: read_weight(row)
        )
        return {**texts, "label": label, **weight}

    return read


def read_pair(row: Row, number: int) -> Row:
    chosen, rejected = row["chosen"], row["rejected"]
    given: Prompt | None = row.get("prompt")
    # Some public sets repeat the prompt as text beside conversations that hold it: then those decide.
    if "prompt" not in row or (isinstance(given, str) and isinstance(chosen, list) and len(chosen) > 1):
        given, chosen, rejected = split_common_start(chosen, rejected)
    texts = all_of(
        lambda: read_prompt(given),
        lambda: _read_half("chosen", chosen, given),
        lambda: _read_half("rejected", rejected, given),
    )
    return dict(zip(PAIRED, texts, strict=True))


def _read_weighted_pair(row: Row, number: int) -> Row:
    return {**read_pair(row, number), **read_weight(row)}


def _read_half(name: str, value: Any, prompt: Any) -> str:
    try:
        return read_completion(value, prompt)
    except BadRow as bad:
        raise BadRow(str(bad).replace("the completion", f"the {name} completion"), bad.remedy) from None


def _unpair(pair: Row) -> list[Row]:
    first_id = 2 * pair[EXAMPLE_ID]
    shared = {"prompt": pair["prompt"], **shared_weight([pair])}
    return [
        {**shared, EXAMPLE_ID: first_id, "completion": pair["chosen"], "label": True},
        {**shared, EXAMPLE_ID: first_id + 1, "completion": pair["rejected"], "label": False},
    ]


def read_prompt_completion(row: Row, number: int) -> Row:
    """Prompt and completion, checked both, so that the faults of both are told."""
    given = row["prompt"]
    texts = all_of(lambda: read_prompt(given), lambda: read_completion(row["completion"], given))
    return dict(zip(PROMPT_COMPLETION, texts, strict=True))


def read_conversation(row: Row, number: int) -> Row:
    prompt, completion = split_messages(row["messages"])
    return {"prompt": prompt, "completion": completion}


def read_text(row: Row, number: int) -> Row:
    if not isinstance(row["text"], str) or not row["text"].strip():
        raise BadRow("the text is empty")
    return {"prompt": "", "completion": row["text"]}


def read_prompt_alone(row: Row, number: int) -> Row:
    return {"prompt": read_prompt(row["prompt"])}


def _warn_of_identical_pairs(pairs: list[Row], source: str) -> None:
    same = [pair["row"] for pair in pairs if pair["chosen"] == pair["rejected"]]
    if same:
        warn_user(
            f"{source}: chosen and rejected are the same in {len(same)} of {len(pairs)} pairs (row "
            f"{name_rows(same)}); they are kept but say nothing about preference",
            stacklevel=4,
        )


def _warn_of_labels(dataset: Dataset, source: str, label_map: Mapping[str, bool] | None) -> None:
    if LABEL not in dataset.column_names:
        return
    values = label_values(dataset)
    labels = labels_of(values, label_map)
    undesirable = sum(labels.meaning_of(value) is False for value in values)
    if undesirable:
        warn_user(
            f"{source}: SFT imitates all {len(dataset)} completions, though {undesirable} are labelled false; "
            f"keep only the rows labelled true if that is not meant",
            stacklevel=4,
        )


def to_dataset(rows: list[Row], columns: tuple[str, ...], source: str) -> Dataset:
    try:
        return Dataset(pa.table({name: [row[name] for row in rows] for name in columns}))
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{source}: messages of different types in one column ({reason}); give one type") from error
