"""Data of one shape for an objective that wants another: convert where that loses nothing, else say what would serve.

    given \\ wanted   unpaired              pairs                                lists
    unpaired          as it is              --pairing                            by prompt
    pairs             taken apart           as it is                             lists of two
    lists, graded     --threshold           --pairing (lists of two: as it is)   as it is, by prompt
    spans             refused               --pairing                            as it is

Lists whose numbers are all 0 and 1 are thumbs already and need no threshold. Objectives that set liked against
disliked answers of a list (DisCO) need such lists, and --threshold makes them.
"""

import warnings
from collections.abc import Collection, Mapping
from typing import TypedDict

from datasets import Dataset

from unveil.data.bad_rows import OnBadRows
from unveil.data.columns import rename_columns
from unveil.data.conversions import (
    LIST_PAIRINGS,
    PAIRINGS,
    Pairing,
    graded_to_thumbs,
    lists_to_liked,
    lists_to_pairs,
    lists_to_thumbs,
    thumbs_to_pairs,
)
from unveil.data.formats import one_label_refused, unpaired_rows
from unveil.data.groups import graded_rows, list_rows, pair_rows
from unveil.data.prompt_weights import without_weightless
from unveil.data.shapes import Shape, call, shape_of
from unveil.errors import UserError

WANTED = ("unpaired", "pairs", "lists")
_NOUN = {"unpaired": "thumbs", "pairs": "pairs", "lists": "lists"}
_HOW = {
    "in_order": "joins the k-th thumb up of a prompt with its k-th thumb down",
    "best_worst": "joins the best answer of a prompt with the worst",
    "all": "joins every two answers of which one is better",
    "best_vs_rest": "joins the best answer with each of the others",
}


def to_shape(
    dataset: Dataset,
    wanted: str,
    source: str,
    *,
    pairing: Pairing | None = None,
    threshold: float | None = None,
    objective: str | None = None,
    column_map: Mapping[str, str] | None = None,
    on_bad_rows: OnBadRows = "error",
    allow_one_label: bool = False,
    label_map: Mapping[str, bool] | None = None,
    reads: Collection[str] | None = None,
    liked: bool = False,
) -> Dataset:
    """Rows for an objective: those of `unpaired_rows`, `pair_rows` or `list_rows`, as `wanted` (`Objective.shape`).

    `liked` says that answers of lists are liked or not, so that grades need a `threshold`. Rows of weight 0 are left
    out, with a warning. `objective` is named in messages, `label_map` and `reads` (what the objective needs beside the
    answers) are as in those functions. Raises `UserError` where a choice is missing that only the user can make
    (`pairing`, `threshold`), where one is given that has no effect, and where the data cannot serve.
    """
    if wanted not in WANTED:
        raise ValueError(f"wanted is {wanted!r}, not one of {', '.join(WANTED)}")
    dataset = rename_columns(dataset, column_map, source)
    shape = shape_of(dataset, source)
    needs = f"--objective {objective} needs {_NOUN[wanted]}" if objective else f"{_NOUN[wanted]} are needed"
    mismatch = f"{source}: holds {call(shape)}, but {needs}"
    cut = shape in ("lists", "graded") and (wanted == "unpaired" or (liked and wanted == "lists"))
    _refuse_idle("--threshold", threshold, cut, source, shape, wanted)
    _refuse_idle("--pairing", pairing, wanted == "pairs" and shape != "pairs", source, shape, wanted)
    how: Reading = {"on_bad_rows": on_bad_rows, "label_map": label_map, "reads": reads}
    if wanted == "lists":
        rows = list_rows(dataset, source, **how)
        if cut:
            mismatch = f"{source}: holds {call(shape)}, but --objective {objective} needs liked and disliked answers"
            rows = _liked(rows, source, threshold, mismatch)
        return without_weightless(rows, source)
    if wanted == "pairs":
        return without_weightless(_pairs(dataset, shape, source, pairing, how, mismatch), source)
    if shape in ("lists", "graded", "spans"):
        dataset, label_map = _thumbs(dataset, shape, source, threshold, how, mismatch), None
    rows = unpaired_rows(dataset, source, on_bad_rows=on_bad_rows, allow_one_label=allow_one_label, label_map=label_map)
    counted = without_weightless(rows, source)
    return rows if len(counted) == len(rows) else one_label_refused(counted, source, allow_one_label)


class Reading(TypedDict):
    """How rows are read, whatever their shape."""

    on_bad_rows: OnBadRows
    label_map: Mapping[str, bool] | None
    reads: Collection[str] | None


def _pairs(
    dataset: Dataset, shape: Shape, source: str, pairing: Pairing | None, how: Reading, mismatch: str
) -> Dataset:
    if shape == "pairs":
        return pair_rows(dataset, source, **how)
    if shape == "unpaired":
        thumbs = unpaired_rows(
            dataset, source, on_bad_rows=how["on_bad_rows"], allow_one_label=True, label_map=how["label_map"]
        )
        if pairing is not None:
            return thumbs_to_pairs(thumbs, source, pairing)
        with warnings.catch_warnings(action="ignore"):
            count = len(thumbs_to_pairs(thumbs, source))  # an error of its own if no prompt has both labels
        raise UserError(f"{mismatch}; {count} can be made: {_ways(PAIRINGS)}")
    lists = list_rows(dataset, source, **how)
    if pairing is None:
        if max(len(completions) for completions in lists["completions"]) > 2:
            raise UserError(f"{mismatch}; {_ways(LIST_PAIRINGS)}")
        return lists_to_pairs(lists, source, "best_worst")
    return lists_to_pairs(lists, source, pairing)


def _thumbs(
    dataset: Dataset, shape: Shape, source: str, threshold: float | None, how: Reading, mismatch: str
) -> Dataset:
    if shape == "spans":
        raise UserError(f"{mismatch}; spans of one answer are compared as a list: use --objective irpo")
    if shape == "graded":
        rows = graded_rows(dataset, source, on_bad_rows=how["on_bad_rows"])
        values = set(rows["score"])
    else:
        rows = list_rows(dataset, source, **how)
        values = {value for relevance in rows["relevance"] for value in relevance}
    threshold = _threshold(values, threshold, mismatch)
    return (graded_to_thumbs if shape == "graded" else lists_to_thumbs)(rows, source, threshold)


def _liked(rows: Dataset, source: str, threshold: float | None, mismatch: str) -> Dataset:
    values = {value for relevance in rows["relevance"] for value in relevance}
    cut = _threshold(values, threshold, mismatch)
    return rows if threshold is None else lists_to_liked(rows, source, cut)


def _threshold(values: set[float], threshold: float | None, mismatch: str) -> float:
    """The threshold given, or that of data which need none."""
    if threshold is not None:
        return threshold
    if not values <= {0.0, 1.0}:
        raise UserError(
            f"{mismatch}; --threshold NUMBER makes answers above it thumbs up and answers below it thumbs down "
            f"(the scores go from {min(values):g} to {max(values):g})"
        )
    return 0.5


def _refuse_idle(flag: str, value: object, used: bool, source: str, shape: Shape, wanted: str) -> None:
    if value is not None and not used:
        raise UserError(
            f"{source}: {flag} {value}: has no effect where {call(shape)} serve as {_NOUN[wanted]}; leave it out"
        )


def _ways(pairings: tuple[str, ...]) -> str:
    return ", ".join(f"--pairing {pairing} {_HOW[pairing]}" for pairing in pairings)
