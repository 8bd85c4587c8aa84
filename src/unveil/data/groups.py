"""Pairs and lists, brought to one shape: a row is a prompt with its candidates (a group), and is never split.

    example_id    the id of the first candidate, by which messages name the group
    prompt        a string or a list of messages
    completions   texts; of a pair, the chosen one first
    relevance     a number per completion, larger is better; (1, 0) for a pair
    response_ids  an id per completion, which seeds its draws

and, where the data have them, the columns of `unveil.data.candidates`.

An id follows its answer through every conversion, so that an answer has the same draws in a pair, in a list and as a
thumb. It is made from the row i (or the row's own `example_id`) that the answer came from:

    pairs              2i (chosen) and 2i + 1 (rejected), as in `unpaired_rows`
    lists              1000 i + k for the candidate k, so at most 1000 candidates: 12003 is row 12, candidate 3
    thumbs, graded     i
    spans              i, the same for all items of an answer: they share its draws
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pyarrow as pa
from datasets import Dataset

from unveil.data.bad_rows import BadRow, OnBadRows
from unveil.data.candidates import (
    PER_CANDIDATE,
    PER_PROMPT,
    columns_to_read,
    read_completions,
    read_extras,
    read_number,
    read_numbers,
    read_spans,
    read_weight,
)
from unveil.data.columns import EXAMPLE_ID, rename_columns
from unveil.data.conversation import read_completion, read_prompt
from unveil.data.conversions import lists_to_pairs, thumbs_to_lists, thumbs_to_pairs
from unveil.data.formats import PAIRED, read_pair, read_rows, to_dataset, unpaired_rows
from unveil.data.grouping import RESPONSE_IDS, group_columns, prompt_key, rows_to_lists
from unveil.data.prompt_weights import weight_column
from unveil.data.shapes import GRADED, SPANNED, shape_of
from unveil.errors import UserError, name_rows, warn_user

CANDIDATES_PER_ROW = 1000
_OPTIONAL = (*PER_CANDIDATE, *PER_PROMPT)
_PAIR_SCORES = ("score_chosen", "score_rejected")

Row = dict[str, Any]


def pair_rows(
    dataset: Dataset,
    source: str,
    *,
    column_map: Mapping[str, str] | None = None,
    on_bad_rows: OnBadRows = "error",
    label_map: Mapping[str, bool] | None = None,
    reads: Collection[str] | None = None,
) -> Dataset:
    """One row per pair: the columns of a group with two completions, the chosen one first, relevance (1, 0).

    From `[prompt,] chosen, rejected`, plain or conversational; from thumbs (the k-th up of a prompt with its k-th
    down); from lists of two. Longer lists are refused: `lists_to_pairs` or `to_shape` say how to pair them.
    `score` may be given as a list or as `score_chosen` and `score_rejected`. `label_map` as in `unpaired_rows`; `reads`
    and columns that happen to have one of our names: `unveil.data.candidates.columns_to_read`. Raises `UserError` for
    missing columns and bad rows (unless `on_bad_rows="drop"`), among them pairs whose answers are the same.
    """
    dataset = rename_columns(dataset, column_map, source)
    shape = shape_of(dataset, source)
    if shape == "pairs":
        columns, read = pair_reader(dataset, source, reads)
        return _to_groups(read_rows(dataset, columns, source, on_bad_rows, read, 2), 2, source)
    if shape == "unpaired":
        thumbs = unpaired_rows(dataset, source, on_bad_rows=on_bad_rows, allow_one_label=True, label_map=label_map)
        return thumbs_to_pairs(thumbs, source)
    lists = list_rows(dataset, source, on_bad_rows=on_bad_rows, reads=reads)
    longer = [name for name, texts in zip(lists[EXAMPLE_ID], lists["completions"]) if len(texts) > 2]
    if longer:
        raise UserError(
            f"{source}: {len(longer)} of {len(lists)} lists have more than two answers ({EXAMPLE_ID} "
            f"{name_rows(longer)}); say how to make pairs with --pairing best_worst, all or best_vs_rest"
        )
    return lists_to_pairs(lists, source, pairing="best_worst")


def list_rows(
    dataset: Dataset,
    source: str,
    *,
    column_map: Mapping[str, str] | None = None,
    on_bad_rows: OnBadRows = "error",
    label_map: Mapping[str, bool] | None = None,
    reads: Collection[str] | None = None,
) -> Dataset:
    """One row per prompt: the columns of a group with two or more completions.

    From `prompt, completions, scores` (or `relevance`), plain or conversational; from graded answers and thumbs,
    grouped by prompt (a prompt with one answer, or with one label only, is left out with a warning); from pairs; from
    ranked spans, whose items become candidates with the one text that they share. Raises `UserError` as `pair_rows`.
    """
    dataset = rename_columns(dataset, column_map, source)
    shape = shape_of(dataset, source)
    if shape == "pairs":
        return pair_rows(dataset, source, on_bad_rows=on_bad_rows, reads=reads)
    if shape == "unpaired":
        thumbs = unpaired_rows(dataset, source, on_bad_rows=on_bad_rows, allow_one_label=True, label_map=label_map)
        return thumbs_to_lists(thumbs, source)
    if shape == "graded":
        return rows_to_lists(graded_rows(dataset, source, on_bad_rows=on_bad_rows), "score", source)
    if shape == "spans":
        columns, read = span_reader(dataset, source, reads)
        return _to_groups(read_rows(dataset, columns, source, on_bad_rows, read), 1, source)
    columns, read = list_reader(dataset, source, reads)
    if RESPONSE_IDS in columns and EXAMPLE_ID in dataset.column_names:
        dataset = dataset.remove_columns(EXAMPLE_ID)  # pairs made of one list share it
    rows = read_rows(dataset, columns, source, on_bad_rows, read, CANDIDATES_PER_ROW)
    if RESPONSE_IDS in columns:
        _refuse_ids_of_two_answers(rows, source)
    _warn_of_ties(rows, source)
    return _to_groups(rows, CANDIDATES_PER_ROW, source)


def graded_rows(
    dataset: Dataset,
    source: str,
    *,
    column_map: Mapping[str, str] | None = None,
    on_bad_rows: OnBadRows = "error",
) -> Dataset:
    """Columns `example_id`, `prompt`, `completion`, `score`, and `weight` if there is one: an answer with a number."""
    dataset = rename_columns(dataset, column_map, source)
    weight = weight_column(dataset, source)
    rows = read_rows(dataset, (*GRADED, *weight), source, on_bad_rows, read_graded)
    return to_dataset(rows, (EXAMPLE_ID, *GRADED, *weight), source)


Reader = tuple[tuple[str, ...], Callable[[Row, int], Row]]
"""The columns to read, and what reads them of a row (with its number), raising `BadRow`."""


def pair_reader(dataset: Dataset, source: str, reads: Collection[str] | None = None) -> Reader:
    """What reads pairs."""
    texts = [name for name in PAIRED if name in dataset.column_names]
    names = [name for name in (*_OPTIONAL, *_PAIR_SCORES) if name != "spans"]
    return (*texts, *columns_to_read(dataset, names, reads, source)), _read_pair


def list_reader(dataset: Dataset, source: str, reads: Collection[str] | None = None) -> Reader:
    """What reads lists."""
    names = dataset.column_names
    if "scores" in names and "relevance" in names:
        raise UserError(
            f"{source}: there are both scores and relevance, and either says which answer is better; give the scores "
            f"of a separate scorer with --column_map scores=score, or remove one of them"
        )
    number = "relevance" if "relevance" in names else "scores"
    own_ids = [RESPONSE_IDS] if RESPONSE_IDS in names and _are_lists_of_integers(dataset, RESPONSE_IDS) else []
    optional = columns_to_read(dataset, _OPTIONAL, reads, source)
    return ("prompt", "completions", number, *own_ids, *optional), _read_list(number)


def span_reader(dataset: Dataset, source: str, reads: Collection[str] | None = None) -> Reader:
    """What reads the items of ranked answers."""
    return (*SPANNED, *columns_to_read(dataset, ("rank", "weight"), reads, source)), _read_spanned


def _are_lists_of_integers(dataset: Dataset, name: str) -> bool:
    kind = dataset.features.arrow_schema.field(name).type
    return isinstance(kind, pa.ListType | pa.LargeListType) and pa.types.is_integer(kind.value_type)


def _read_pair(row: Row, number: int) -> Row:
    pair = read_pair({name: row[name] for name in PAIRED if name in row}, number)
    completions = [pair["chosen"], pair["rejected"]]
    if completions[0] == completions[1]:
        raise BadRow("chosen and rejected are the same text")
    if "score" not in row and all(name in row for name in _PAIR_SCORES):
        row["score"] = [row[name] for name in _PAIR_SCORES]
    return {
        "prompt": pair["prompt"],
        "completions": completions,
        "relevance": [1.0, 0.0],
        **read_extras(row, completions),
    }


def _read_list(column: str) -> Callable[[Row, int], Row]:
    def read(row: Row, number: int) -> Row:
        prompt = read_prompt(row["prompt"])
        completions = read_completions(row["completions"], prompt)
        if len(completions) > CANDIDATES_PER_ROW:
            raise BadRow(f"completions holds more than {CANDIDATES_PER_ROW}", "give fewer per prompt")
        relevance = read_numbers(row[column], len(completions), column)
        extras = read_extras(row, completions)
        if RESPONSE_IDS in row:
            extras[RESPONSE_IDS] = _read_ids(row[RESPONSE_IDS], len(completions))
        if "spans" not in row:
            _refuse_contradiction(completions, relevance)
        return {"prompt": prompt, "completions": completions, "relevance": relevance, **extras}

    return read


def _read_spanned(row: Row, number: int) -> Row:
    prompt = read_prompt(row["prompt"])
    completion = read_completion(row["completion"], prompt)
    spans = read_spans(row["spans"], completion, "spans")
    if len(spans) < 2:
        raise BadRow("spans holds one item, and a comparison needs two", "give at least two per answer")
    rank = row.get("rank", list(range(1, len(spans) + 1)))
    extras = {name: value for name, value in row.items() if name in PER_PROMPT}
    completions = [completion] * len(spans)
    return {
        "prompt": prompt,
        "completions": completions,
        "relevance": read_numbers(row["relevance"], len(spans), "relevance", of="span"),
        **read_extras({**extras, "rank": rank, "spans": spans}, completions),
    }


def read_graded(row: Row, number: int) -> Row:
    prompt = read_prompt(row["prompt"])
    completion = read_completion(row["completion"], prompt)
    score = read_number(row["score"], "score")
    return {"prompt": prompt, "completion": completion, "score": score, **read_weight(row)}


def _read_ids(value: Any, count: int) -> list[int]:
    if not isinstance(value, list) or any(type(one) is not int or one < 0 for one in value):
        raise BadRow(f"{RESPONSE_IDS} are not integers of at least 0", "correct or remove the column")
    if len(value) != count:
        raise BadRow(f"{RESPONSE_IDS} holds {len(value)} for {count} candidates", "give exactly one for each")
    return value


def _refuse_contradiction(completions: list[str], relevance: list[float]) -> None:
    said: dict[str, int] = {}
    for place, text in enumerate(completions):
        first = said.setdefault(text, place)
        if relevance[first] != relevance[place]:
            raise BadRow(
                f"completions {first} and {place} are the same text with different scores", "give each answer one score"
            )


def _refuse_ids_of_two_answers(rows: list[Row], source: str) -> None:
    """An id seeds draws and names cached values, so it must not stand for two answers."""
    answer_of: dict[int, tuple[str, str]] = {}
    wrong = []
    for row in rows:
        key = prompt_key(row["prompt"])
        answers = {one: (key, text) for one, text in zip(row[RESPONSE_IDS], row["completions"])}
        if any(answer_of.setdefault(one, answer) != answer for one, answer in answers.items()):
            wrong.append(row["row"])
    if wrong:
        raise UserError(
            f"{source}: {RESPONSE_IDS} names two different answers by one id (rows {name_rows(wrong)}, counted from "
            f"0); give each answer its own, or remove the column"
        )


def _warn_of_ties(rows: list[Row], source: str) -> None:
    tied = [row["row"] for row in rows if len(set(row["relevance"])) == 1]
    if tied:
        warn_user(
            f"{source}: all scores are equal in {len(tied)} of {len(rows)} lists (row {name_rows(tied)}); they are "
            f"kept but say nothing about preference",
            stacklevel=5,
        )


def _to_groups(rows: list[Row], ids_per_row: int, source: str) -> Dataset:
    """Give every candidate its id, and every group the id of its first candidate."""
    for row in rows:
        if RESPONSE_IDS not in row:
            first = row[EXAMPLE_ID] * ids_per_row
            shared = "spans" in row
            row[RESPONSE_IDS] = [first + (0 if shared else place) for place in range(len(row["completions"]))]
        row[EXAMPLE_ID] = row[RESPONSE_IDS][0]
    return to_dataset(rows, group_columns(rows[0]), source)
