"""The columns of a group that say something about each candidate, or about the prompt: read and checked, row by row.

    per candidate, lists as long as `completions`                per prompt, one finite number
    relevance     what the person said, larger is better         margin   how much better the chosen one is
    score         what a separate scorer says, in its units      weight   what the prompt counts, >= 0
    rank          the place where it was shown, from 1           gap      how easy the comparison is
    steps         the parts of its text
    step_weights  one number per step
    spans         the one part of the text that is the candidate

Everything here raises `BadRow` with a reason and a remedy; the row and the file are added by the caller.
"""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pyarrow as pa
from datasets import Dataset

from unveil.data.bad_rows import BadRow
from unveil.data.conversation import Prompt, read_completion
from unveil.errors import shortened, warn_user

PER_CANDIDATE = ("score", "rank", "steps", "step_weights", "spans")
PER_PROMPT = ("margin", "weight", "gap")

Span = list[int]
_PAIR_SCORES = ("score_chosen", "score_rejected")
_WEIGHTED_STEPS = ("steps", "step_weights")


def columns_to_read(dataset: Dataset, names: Sequence[str], reads: Collection[str] | None, source: str) -> list[str]:
    """Those of the optional columns `names` that the data set has and the run reads.

    `reads` are the ones that the run cannot do without; what else it reads (all of them where `reads` is None, `weight`
    and `margin`, weighted steps, spans) is read where it has the form of ours. A column of that name with something
    else in it is the user's own: it is left alone, as `id` or `meta` are, and named in a warning.
    """
    present = [name for name in names if name in dataset.column_names]
    needed = set(reads or ())
    types = dataset.features.arrow_schema
    if "score" in needed and set(_PAIR_SCORES) <= set(present):
        needed |= set(_PAIR_SCORES)
        if "score" in present and not _fits("score", types.field("score").type):
            needed.remove("score")  # the scores are in the two columns
    general = {"weight", "margin", "spans", *(_WEIGHTED_STEPS if set(_WEIGHTED_STEPS) <= set(present) else ())}
    wanted = set(names) if reads is None else needed | general
    odd = [n for n in present if n in wanted - needed and not _fits(n, types.field(n).type)]
    if reads is not None and set(odd) & set(_WEIGHTED_STEPS):
        wanted -= set(_WEIGHTED_STEPS) - needed  # neither says anything without the other
    found = [name for name in present if name in wanted and name not in odd]
    told = [name for name in odd if not pa.types.is_null(types.field(name).type)]
    if told:
        form = (
            "lists, one entry per answer" if set(told) <= set(PER_CANDIDATE) else "numbers (lists for several answers)"
        )
        warn_user(f"{source}: the column {', '.join(told)} does not hold {form}, and is left alone", stacklevel=5)
    return found


def _fits(name: str, kind: pa.DataType) -> bool:
    """Whether values of this type can be what `name` stands for."""
    if name not in PER_CANDIDATE:
        return pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if not isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        return False
    inner = kind.value_type
    if name in ("score", "rank"):
        return pa.types.is_integer(inner) or pa.types.is_floating(inner)
    return pa.types.is_list(inner) or (name == "spans" and pa.types.is_string(inner))


def read_completions(value: Any, prompt: Prompt) -> list[str]:
    """The texts of at least two candidates."""
    if not isinstance(value, list):
        raise BadRow(
            f"completions is not a list but {type(value).__name__}", "give a list of texts, or of lists of one message"
        )
    if len(value) < 2:
        raise BadRow(f"completions holds {len(value)}, and a comparison needs two", "give at least two per prompt")
    return [_named(f"completion {place}", read_completion, one, prompt) for place, one in enumerate(value)]


def read_number(value: Any, name: str) -> float:
    """A finite number; a boolean is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = "missing" if value is None else f"{shortened(value)}, not a number"
        raise BadRow(f"{name} is {found}", "give a number, or rename the column with --column_map")
    if not math.isfinite(value):
        raise BadRow(f"{name} is {value}", "give a finite number")
    return float(value)


def read_numbers(value: Any, count: int, name: str, of: str = "candidate") -> list[float]:
    """One finite number per candidate (or per whatever `of` says)."""
    _check_count(value, count, name, of)
    return [read_number(one, f"{name}: {of} {place}") for place, one in enumerate(value)]


def read_rank(value: Any, count: int) -> list[int]:
    """The places 1..count, each once."""
    _check_count(value, count, "rank")
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in value) or (
        sorted(value) != list(range(1, count + 1))
    ):
        raise BadRow(f"rank is not a permutation of 1 to {count}", "give each candidate the place where it was shown")
    return [int(one) for one in value]


def read_extras(row: dict[str, Any], completions: Sequence[str]) -> dict[str, Any]:
    """The optional columns that `row` has, checked; `steps` and `spans` become [start, end) in characters."""
    count = len(completions)
    extras: dict[str, Any] = {}
    for name in ("margin", "gap"):
        if name in row:
            extras[name] = read_number(row[name], name)
    extras |= read_weight(row)
    if "score" in row:
        extras["score"] = read_numbers(row["score"], count, "score")
    if "rank" in row:
        extras["rank"] = read_rank(row["rank"], count)
    if "steps" in row:
        _check_count(row["steps"], count, "steps")
        extras["steps"] = [
            read_spans(steps, text, f"steps of candidate {place}")
            for place, (steps, text) in enumerate(zip(row["steps"], completions))
        ]
    if "step_weights" in row:
        extras["step_weights"] = _read_step_weights(row["step_weights"], extras.get("steps"))
    if "spans" in row:
        _check_count(row["spans"], count, "spans")
        extras["spans"] = [
            read_spans([span], text, f"spans of candidate {place}")[0]
            for place, (span, text) in enumerate(zip(row["spans"], completions))
        ]
    return extras


def read_weight(row: dict[str, Any]) -> dict[str, float]:
    """`{"weight": w}` of a row that has one, else nothing."""
    if "weight" not in row:
        return {}
    weight = read_number(row["weight"], "weight")
    if weight < 0:
        raise BadRow("weight is below 0", "give a weight of at least 0")
    return {"weight": weight}


def read_spans(value: Any, text: str, name: str) -> list[Span]:
    """Parts of `text`, in order and without overlap, as [start, end) in characters.

    Given as such, or as strings that are found one after the other.
    """
    if not isinstance(value, list) or not value:
        raise BadRow(f"{name} is not a list of texts or of [start, end]", "give one per part of the answer")
    spans: list[Span] = []
    for place, part in enumerate(value):
        after = spans[-1][1] if spans else 0
        if isinstance(part, str):
            start = text.find(part, after) if part else -1
            if start < 0:
                where = f" after part {place - 1}" if spans else ""
                raise BadRow(f"{name}: part {place} is not in the text{where}", "give parts that the answer contains")
            spans.append([start, start + len(part)])
            continue
        whole = isinstance(part, list) and len(part) == 2 and all(type(one) is int for one in part)
        if not whole or not 0 <= part[0] < part[1] <= len(text):
            raise BadRow(
                f"{name}: {shortened(part)} lies outside the text of {len(text)} characters or is no [start, end]",
                "give 0 <= start < end <= length of the answer",
            )
        if part[0] < after:
            raise BadRow(
                f"{name}: {shortened(part)} begins before the part ahead of it ends", "order them, without overlap"
            )
        spans.append([part[0], part[1]])
    return spans


def _read_step_weights(value: Any, steps: list[list[Span]] | None) -> list[list[float]]:
    if steps is None:
        raise BadRow("step_weights is there without steps", "add the column steps, or remove step_weights")
    _check_count(value, len(steps), "step_weights")
    return [
        read_numbers(weights, len(spans), f"step_weights of candidate {place}", of="step")
        for place, (weights, spans) in enumerate(zip(value, steps))
    ]


def _check_count(value: Any, count: int, name: str, of: str = "candidate") -> None:
    if not isinstance(value, list):
        found = "missing" if value is None else f"{shortened(value)}, not a list"
        raise BadRow(f"{name} is {found}", "give a list with one for each, or rename the column with --column_map")
    if len(value) != count:
        raise BadRow(f"{name} holds {len(value)} for {count} {of}s", "give exactly one for each")


def _named(name: str, read: Callable[[Any, Any], str], value: Any, prompt: Any) -> str:
    """`read(value, prompt)`; what is wrong with it is told of `name`."""
    try:
        return read(value, prompt)
    except BadRow as bad:
        raise BadRow(str(bad).replace("the completion", name), bad.remedy) from None
