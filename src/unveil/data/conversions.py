"""From one shape of checked data to another: pure functions of the rows, in the order of the rows.

Ids follow the answers. What cannot be converted (ties, leftovers) is skipped, counted and named in a warning; if
nothing is left, a `UserError` says why.

    pairs_to_thumbs    chosen = up, rejected = down
    thumbs_to_pairs    the k-th up of a prompt with its k-th down (`in_order`), or as lists are paired
    thumbs_to_lists    the answers of a prompt that has both labels; relevance 1 and 0
    lists_to_pairs     `best_worst`: one pair; `best_vs_rest`: up to K - 1; `all`: up to K (K - 1) / 2
    lists_to_thumbs    above the threshold = up, below = down, equal = a tie
    graded_to_thumbs   the same for single answers
    lists_to_liked     the same within lists: relevance 1 and 0
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import numpy as np
from datasets import Dataset

from unveil.data.candidates import PER_CANDIDATE
from unveil.data.columns import EXAMPLE_ID
from unveil.data.formats import UNPAIRED, to_dataset
from unveil.data.grouping import RESPONSE_IDS, by_prompt, group_columns, rows_to_lists, to_group
from unveil.data.prompt_weights import WEIGHT, shared_weight, without_weightless
from unveil.errors import UserError, name_rows, warn_user

Pairing = Literal["in_order", "best_worst", "all", "best_vs_rest"]
PAIRINGS: tuple[str, ...] = get_args(Pairing)
LIST_PAIRINGS = PAIRINGS[1:]

Row = dict[str, Any]
Places = list[tuple[int, int]]


def pairs_to_thumbs(pairs: Dataset, source: str) -> Dataset:
    """Rows of `pair_rows` as rows of `unpaired_rows`. Scores and margins of pairs are left behind.

    An answer in several pairs becomes one thumb, of their mean weight; one that is chosen here and rejected there is
    left out.
    """
    _refuse_spans(pairs, source)
    thumbs: dict[int, Row] = {}
    torn: dict[int, None] = {}
    for members in _by_answer(pairs).values():
        first, *others = members
        thumbs[first[EXAMPLE_ID]] = {**first, **shared_weight(members)}
        if any(other["label"] != first["label"] for other in others):
            torn.setdefault(first[EXAMPLE_ID])
    left_out = f"{len(torn)} answers are chosen in one pair and rejected in another ({EXAMPLE_ID} {_named(torn)})"
    kept = [thumb for example_id, thumb in thumbs.items() if example_id not in torn]
    return _settle(kept, _thumb_columns(pairs), [left_out] if torn else [], source)


def _by_answer(pairs: Dataset) -> dict[int, list[Row]]:
    """The thumbs of each answer, one for every pair that it is in."""
    found: dict[int, list[Row]] = {}
    for pair in _rows(pairs):
        for place, label in ((0, True), (1, False)):
            thumb = _thumb(pair, place, label)
            found.setdefault(thumb[EXAMPLE_ID], []).append(thumb)
    return found


def thumbs_to_pairs(thumbs: Dataset, source: str, pairing: Pairing = "in_order") -> Dataset:
    """Rows of `unpaired_rows` as rows of `pair_rows`, by prompt.

    `in_order` undoes `pairs_to_thumbs`, also where a prompt occurs in several pairs. A pair counts the mean of its
    thumbs' weights, and thumbs of weight 0 are left out.
    """
    _check_pairing(pairing, PAIRINGS, source)
    thumbs = without_weightless(thumbs, source)
    if pairing != "in_order":
        return lists_to_pairs(thumbs_to_lists(thumbs, source), source, pairing)
    pairs: list[tuple[int, Row]] = []
    alone: list[int] = []
    same: list[int] = []
    for group in by_prompt({**row, "place": place} for place, row in enumerate(_rows(thumbs))):
        ups = [row for row in group if row["label"]]
        downs = [row for row in group if not row["label"]]
        paired = min(len(ups), len(downs))
        alone += [row[EXAMPLE_ID] for row in (*ups[paired:], *downs[paired:])]
        for up, down in zip(ups, downs):
            if up["completion"] == down["completion"]:
                same.append(up[EXAMPLE_ID])
            else:
                pairs.append((min(up["place"], down["place"]), to_group([up, down], [1.0, 0.0])))
    reasons = []
    if alone:
        reasons.append(
            f"{len(alone)} of {len(thumbs)} thumbs have no partner of the other label for their prompt "
            f"({EXAMPLE_ID} {_named(sorted(alone))})"
        )
    if same:
        reasons.append(f"{len(same)} thumbs up have the text of their thumb down ({EXAMPLE_ID} {_named(same)})")
    if not pairs:
        raise UserError(
            f"{source}: no prompt has both a thumb up and a thumb down on another answer, so that there is no pair: "
            f"{' and '.join(reasons)}; use an objective for thumbs (--objective kto), or add the other label"
        )
    ordered = [pair for _, pair in sorted(pairs, key=lambda placed: placed[0])]
    return _settle(ordered, group_columns(thumbs.column_names), reasons, source)


def thumbs_to_lists(thumbs: Dataset, source: str) -> Dataset:
    """Rows of `unpaired_rows` as rows of `list_rows`: prompts that have both labels, relevance 1 and 0."""
    thumbs = without_weightless(thumbs, source)
    one_label: list[int] = []
    kept: list[int] = []
    for group in by_prompt({**row, "place": place} for place, row in enumerate(_rows(thumbs))):
        if len({row["label"] for row in group}) == 1:
            one_label.append(group[0][EXAMPLE_ID])
        else:
            kept += [row["place"] for row in group]
    left_out = f"{len(one_label)} prompts have one label only ({EXAMPLE_ID} {_named(one_label)})"
    if not kept:
        raise UserError(
            f"{source}: no prompt has both a thumb up and a thumb down: {left_out}; use an objective for thumbs "
            f"(--objective kto), or add the other label"
        )
    if one_label:
        warn_user(f"{source}: {left_out}; they are left out")
    return rows_to_lists(thumbs.select(sorted(kept)), "label", source)


def lists_to_pairs(lists: Dataset, source: str, pairing: Pairing) -> Dataset:
    """Rows of `list_rows` as rows of `pair_rows`: a pair for each two candidates that `pairing` joins, unless tied.

    Of equally good candidates the first is the best, of equally bad ones the first is the worst. Where the lists have
    graded relevance, a pair keeps its difference as `gap` and, unless the lists have a scorer of their own, its
    numbers as `score`. `rank` becomes 1 and 2.
    """
    _check_pairing(pairing, LIST_PAIRINGS, source)
    graded = any(value not in (0.0, 1.0) for row in _rows(lists) for value in row["relevance"])
    pairs: list[Row] = []
    tied: list[int] = []
    ties = 0
    for row in _rows(lists):
        places, skipped = _PAIRERS[pairing](row["relevance"])
        pairs += [_pick(row, better, worse, graded) for better, worse in places]
        ties += skipped
        if skipped:
            tied.append(row[EXAMPLE_ID])
    reason = f"{ties} ties in {len(tied)} of {len(lists)} lists make no pair ({EXAMPLE_ID} {_named(tied)})"
    columns = group_columns((*lists.column_names, *(("gap", "score") if graded else ())))
    return _settle(pairs, columns, [reason] if ties else [], source)


def lists_to_thumbs(lists: Dataset, source: str, threshold: float) -> Dataset:
    """Rows of `list_rows` as rows of `unpaired_rows`: relevance above `threshold` is a thumb up, below it down."""
    _refuse_spans(lists, source)
    rows = ((_thumb(row, place, None), value) for row in _rows(lists) for place, value in enumerate(row["relevance"]))
    return _thumbs_around(threshold, rows, _thumb_columns(lists), source)


def graded_to_thumbs(graded: Dataset, source: str, threshold: float) -> Dataset:
    """Rows of `graded_rows` as rows of `unpaired_rows`, as `lists_to_thumbs`."""
    rows = ((row, row["score"]) for row in _rows(graded))
    return _thumbs_around(threshold, rows, _thumb_columns(graded), source)


def lists_to_liked(lists: Dataset, source: str, threshold: float) -> Dataset:
    """Rows of `list_rows` with relevance 1 above `threshold` and 0 below it.

    Answers exactly at it are left out, and lists that then have no liked or no disliked answer.
    """
    _check_threshold(threshold, source)
    kept: list[Row] = []
    tied, one_kind = [], []
    for row in _rows(lists):
        places = [place for place, value in enumerate(row["relevance"]) if value != threshold]
        tied += [row[RESPONSE_IDS][place] for place in range(len(row["relevance"])) if place not in places]
        liked = [float(row["relevance"][place] > threshold) for place in places]
        if len(set(liked)) < 2:
            one_kind.append(row[EXAMPLE_ID])
        else:
            kept.append({**_candidates(row, places), "relevance": liked})
    reasons = []
    if tied:
        reasons.append(_at_threshold(tied, threshold))
    if one_kind:
        reasons.append(
            f"{len(one_kind)} of {len(lists)} lists have no liked or no disliked answer around --threshold "
            f"{threshold:g} ({EXAMPLE_ID} {_named(one_kind)})"
        )
    return _settle(kept, group_columns(lists.column_names), reasons, source)


def _candidates(row: Row, places: list[int]) -> Row:
    """The list with the candidates at `places` only, ranks counted anew."""
    found = dict(row)
    for name in ("completions", RESPONSE_IDS, *PER_CANDIDATE):
        if name in found:
            found[name] = [found[name][place] for place in places]
    if "rank" in found:
        found["rank"] = [1 + sum(other < rank for other in found["rank"]) for rank in found["rank"]]
    return {**found, EXAMPLE_ID: found[RESPONSE_IDS][0]}


def _at_threshold(tied: list[int], threshold: float) -> str:
    return f"{len(tied)} answers lie exactly at --threshold {threshold:g} ({EXAMPLE_ID} {_named(tied)})"


def _check_threshold(threshold: float, source: str) -> None:
    if not np.isfinite(threshold):
        raise UserError(f"{source}: --threshold {threshold}: must be a finite number; correct it")


def _thumb_columns(rows: Dataset) -> tuple[str, ...]:
    return (EXAMPLE_ID, *UNPAIRED, *(name for name in rows.column_names if name == WEIGHT))


def _thumbs_around(
    threshold: float, rows: Iterable[tuple[Row, float]], columns: tuple[str, ...], source: str
) -> Dataset:
    _check_threshold(threshold, source)
    thumbs, tied = [], []
    for row, value in rows:
        if value == threshold:
            tied.append(row[EXAMPLE_ID])
        else:
            thumbs.append({**row, "label": value > threshold})
    return _settle(thumbs, columns, [_at_threshold(tied, threshold)] if tied else [], source)


def _best_worst(relevance: list[float]) -> tuple[Places, int]:
    best, worst = int(np.argmax(relevance)), int(np.argmin(relevance))
    return ([], 1) if relevance[best] == relevance[worst] else ([(best, worst)], 0)


def _best_vs_rest(relevance: list[float]) -> tuple[Places, int]:
    best = int(np.argmax(relevance))
    places = [(best, other) for other, value in enumerate(relevance) if value < relevance[best]]
    return places, len(relevance) - 1 - len(places)


def _all(relevance: list[float]) -> tuple[Places, int]:
    count = len(relevance)
    places = [(i, j) for i in range(count) for j in range(count) if relevance[i] > relevance[j]]
    return places, count * (count - 1) // 2 - len(places)


_PAIRERS: dict[str, Callable[[list[float]], tuple[Places, int]]] = {
    "best_worst": _best_worst,
    "all": _all,
    "best_vs_rest": _best_vs_rest,
}


def _pick(row: Row, better: int, worse: int, graded: bool) -> Row:
    """The pair (better, worse) of a list."""
    relevance = [row["relevance"][better], row["relevance"][worse]]
    pair = dict(row)
    if graded:
        pair = {"gap": relevance[0] - relevance[1], "score": row["relevance"], **pair}
    return {**_candidates(pair, [better, worse]), "relevance": [1.0, 0.0]}


def _thumb(row: Row, place: int, label: bool | None) -> Row:
    return {
        EXAMPLE_ID: row[RESPONSE_IDS][place],
        "prompt": row["prompt"],
        "completion": row["completions"][place],
        "label": label,
        **shared_weight([row]),
    }


def _settle(rows: list[Row], columns: tuple[str, ...], reasons: list[str], source: str) -> Dataset:
    """The data set of `rows`, with a warning of what was left out; `UserError` if nothing is left."""
    if not rows:
        raise UserError(f"{source}: nothing is left to learn from: {' and '.join(reasons)}; give other data")
    if reasons:
        warn_user(f"{source}: {' and '.join(reasons)}; they are left out", stacklevel=4)
    return to_dataset(rows, columns, source)


def _refuse_spans(dataset: Dataset, source: str) -> None:
    if "spans" in dataset.column_names:
        raise UserError(
            f"{source}: the candidates are spans of one answer, and a thumb is for a whole answer; "
            f"use an objective for lists (--objective irpo)"
        )


def _check_pairing(pairing: str, allowed: tuple[str, ...], source: str) -> None:
    if pairing not in allowed:
        raise UserError(f"{source}: --pairing {pairing}: not a way to pair these data; use {', '.join(allowed)}")


def _rows(dataset: Dataset) -> Iterable[Row]:
    return dataset.with_format(None)  # pyright: ignore[reportReturnType]


def _named(ids: Iterable[int]) -> str:
    return name_rows(list(ids))
