"""Rows held out of training by prompt, so that no prompt stands on both sides; and how many do where a user split."""

import hashlib
import math
from collections.abc import Iterable
from typing import Any

from datasets import Dataset

from unveil.data.grouping import prompt_key
from unveil.errors import UserError

_ANSWERS = ("completion", "completions")


def split_by_prompt(rows: Dataset, size: float, seed: int, source: str) -> tuple[Dataset, Dataset]:
    """(training rows, held-out rows), each in the order of `rows`.

    `size` below 1 is a share of the prompts, from 1 on a number of them. Which prompts are held out depends on `seed`
    and on the text of the prompts alone: rows may be added or moved, and a smaller share is a part of a larger one.
    Rows without a prompt (plain text) count as prompts of their own. Raises `UserError` if a side would be empty.
    """
    flag = f"--eval_size {size:g}"
    if not math.isfinite(size) or size <= 0 or (size >= 1 and size != int(size)):
        raise UserError(f"{flag}: must be a share of the prompts below 1, or a whole number of them")
    keys = [_unit(row) for row in _rows(rows)]
    prompts = sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    count = max(1, round(size * len(prompts))) if size < 1 else int(size)
    if count >= len(prompts):
        which = "one prompt" if len(prompts) == 1 else f"{len(prompts)} prompts"
        raise UserError(
            f"{source}: {flag}: there are {len(rows)} rows of {which}, and holding out {count} leaves none to "
            "train on; give a smaller one, or hold out rows with --dataset_train_split 'train[:90%]' "
            "--dataset_test_split 'train[90%:]'"
        )
    held_out = set(prompts[:count])
    places = [place for place, key in enumerate(keys) if key in held_out]
    rest = [place for place, key in enumerate(keys) if key not in held_out]
    return rows.select(rest), rows.select(places)


def shared_prompts(training: Dataset, held_out: Dataset, source: str) -> str | None:
    """What to say where held-out rows have prompts that are trained on: how many, and how many the answers too."""
    known = {_unit(row) for row in _rows(training)}
    same = {(_unit(row), _answer(row)) for row in _rows(training)}
    found = [row for row in _rows(held_out) if _unit(row) in known]
    if not found:
        return None
    twice = sum((_unit(row), _answer(row)) in same for row in found)
    answers = f" ({twice} with the same answer)" if twice else ""
    return (
        f"{source}: {len(found)} of {len(held_out)} held-out rows have a prompt that training rows have too{answers}, "
        "so that held-out numbers flatter; --eval_size holds out by prompt"
    )


def _rows(dataset: Dataset) -> Iterable[dict[str, Any]]:
    return dataset  # pyright: ignore[reportReturnType]


def _unit(row: dict[str, Any]) -> str:
    """What must not stand on both sides: the prompt, or where there is none the text itself."""
    return prompt_key(row["prompt"]) if row["prompt"] else f"text:{_answer(row)}"


def _answer(row: dict[str, Any]) -> str:
    return next((str(row[name]) for name in _ANSWERS if name in row), "")
