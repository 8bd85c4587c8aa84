"""Rows that share a prompt, put together: single answers with a number become lists."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from datasets import Dataset

from unveil.data.candidates import PER_CANDIDATE, PER_PROMPT
from unveil.data.columns import EXAMPLE_ID
from unveil.data.conversation import Prompt
from unveil.data.formats import to_dataset
from unveil.data.prompt_weights import WEIGHT, shared_weight, without_weightless
from unveil.errors import UserError, name_rows, warn_user

RESPONSE_IDS = "response_ids"
GROUP = (EXAMPLE_ID, "prompt", "completions", "relevance", RESPONSE_IDS)

Row = dict[str, Any]


def group_columns(names: Iterable[str]) -> tuple[str, ...]:
    """The columns of a group, in their order, of which the optional ones are in `names`."""
    present = set(names)
    return (*GROUP, *(name for name in (*PER_CANDIDATE, *PER_PROMPT) if name in present))


def prompt_key(prompt: Prompt) -> str:
    """Equal for equal prompts: text, or messages whatever the order of their fields."""
    return json.dumps(prompt, sort_keys=True, ensure_ascii=False)


def by_prompt(rows: Iterable[Mapping[str, Any]]) -> list[list[Row]]:
    """The rows of each prompt, prompts in the order of their first row."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(prompt_key(row["prompt"]), []).append(dict(row))
    return list(groups.values())


def rows_to_lists(rows: Dataset, column: str, source: str) -> Dataset:
    """`prompt, completion` and a number in `column` to one list per prompt, in the order of the rows.

    Ids stay. An answer that a prompt has twice with one and the same number counts once; a list counts the mean of its
    rows' weights, and rows of weight 0 are left out. Prompts whose answers cannot
    be compared (one answer, or the same text with two numbers) are left out with a warning; `UserError` if none is
    left.
    """
    lists, single, contradictory = [], [], []
    rows = without_weightless(rows, source)
    for group in by_prompt(rows):  # pyright: ignore[reportArgumentType]
        answers: dict[str, Row] = {}
        for row in group:
            answers.setdefault(row["completion"], row)
        if any(answers[row["completion"]][column] != row[column] for row in group):
            contradictory.append(group[0][EXAMPLE_ID])
        elif len(answers) < 2:
            single.append(group[0][EXAMPLE_ID])
        else:
            numbers = [float(row[column]) for row in answers.values()]
            lists.append({**to_group(list(answers.values()), numbers), **shared_weight(group)})
    reasons = []
    if single:
        reasons.append(f"{len(single)} have one answer only ({EXAMPLE_ID} {name_rows(single)})")
    if contradictory:
        reasons.append(
            f"{len(contradictory)} have the same text twice with another {column} ({EXAMPLE_ID} "
            f"{name_rows(contradictory)})"
        )
    total = len(lists) + len(single) + len(contradictory)
    if not lists:
        raise UserError(
            f"{source}: no prompt has two answers that can be compared: of {total} prompts {' and '.join(reasons)}; "
            f"give prompts with several answers, or an objective for thumbs (--objective kto)"
        )
    if reasons:
        warn_user(f"{source}: of {total} prompts {' and '.join(reasons)}; they are left out", stacklevel=4)
    return to_dataset(lists, group_columns(name for name in rows.column_names if name == WEIGHT), source)


def to_group(rows: list[Row], relevance: list[float]) -> Row:
    """One group of single answers to one prompt, named by the first; it counts the mean of their weights."""
    return {
        EXAMPLE_ID: rows[0][EXAMPLE_ID],
        "prompt": rows[0]["prompt"],
        "completions": [row["completion"] for row in rows],
        "relevance": relevance,
        RESPONSE_IDS: [row[EXAMPLE_ID] for row in rows],
        **shared_weight(rows),
    }
