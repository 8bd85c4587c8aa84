"""What the labels of a file mean: true and false, the usual ways to write them, or what `--label_map` says.

A word (`yes`, `thumbs_up`, `👍`) means the same in every file. A number does not: 1 and 0, or 1 and -1, are a thumb up
and a thumb down only where the file holds both and no other number.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset

from unveil.data.bad_rows import BadRow
from unveil.errors import UserError, shortened

LABEL = "label"
_UP = (
    "true", "t", "yes", "y", "thumbs_up", "thumbsup", "thumb_up", "up", "upvote", "good", "positive", "pos", "like",
    "liked", "desirable", "\N{THUMBS UP SIGN}",
)  # fmt: skip
_DOWN = (
    "false", "f", "no", "n", "thumbs_down", "thumbsdown", "thumb_down", "down", "downvote", "bad", "negative", "neg",
    "dislike", "disliked", "undesirable", "\N{THUMBS DOWN SIGN}",
)  # fmt: skip
_WORDS = dict.fromkeys(_UP, True) | dict.fromkeys(_DOWN, False)
_NUMBERS: tuple[dict[str, bool], ...] = ({"1": True, "0": False}, {"1": True, "-1": False})
_SKIN_TONES = {
    ord(tone): None for tone in "\N{VARIATION SELECTOR-16}\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
}


@dataclass(frozen=True)
class Labels:
    """How the labels of one file are read; made by `labels_of`."""

    meaning: Mapping[str, bool]
    """By `spelled` label."""
    read_as: Mapping[str, tuple[bool, int]] = field(default_factory=dict)
    """What is no boolean and is read as one: label as written -> (meaning, rows)."""
    mapped: bool = False

    def meaning_of(self, value: Any) -> bool | None:
        """The meaning of one label, None where it has none."""
        if isinstance(value, bool | np.bool_) and not self.mapped:
            return bool(value)
        key = spelled(value)
        return None if key is None else self.meaning.get(key)

    def read(self, value: Any) -> bool:
        """The meaning of one label, or `BadRow`."""
        meaning = self.meaning_of(value)
        if meaning is not None:
            return meaning
        raise BadRow(f"label is {shortened(value)} ({type(value).__name__}), {self._not()}", _remedy(value))

    def _not(self) -> str:
        return "which --label_map does not name" if self.mapped else "not a boolean"

    def describe(self) -> str | None:
        """`labels 'yes' (12 rows) are read as true, 'no' (9 rows) as false`, or None where all are booleans."""
        if not self.read_as:
            return None
        parts = []
        for meaning in (True, False):
            said = [f"{shortened(label)} ({n} rows)" for label, (is_up, n) in self.read_as.items() if is_up is meaning]
            if said:
                parts.append(f"{', '.join(said[:6])}{' and more' * (len(said) > 6)} as {str(meaning).lower()}")
        return f"labels are read so: {', '.join(parts)}; --label_map says otherwise"


def labels_of(values: Iterable[Any], label_map: Mapping[str, bool] | None = None) -> Labels:
    """How all labels of a file are read together.

    `label_map` goes by `spelled` labels; booleans that it does not name keep their meaning.
    """
    if label_map is not None:
        return Labels({"true": True, "false": False} | dict(label_map), mapped=True)
    counts = Counter((type(value), value) for value in values if isinstance(value, str | int | float))
    keys = {key for _, value in counts if (key := spelled(value)) is not None}
    meaning = {key: _WORDS[key] for key in keys if key in _WORDS}
    numbers = {key for key in keys if _is_number(key)}
    for pair in _NUMBERS:
        sides = set(meaning.values()) | {pair[key] for key in numbers if key in pair}
        if numbers and numbers <= set(pair) and sides == {True, False}:
            meaning |= {key: pair[key] for key in numbers}
            break
    read_as: dict[str, tuple[bool, int]] = {}
    for (kind, value), number in counts.items():
        if kind is not bool and (key := spelled(value)) in meaning:
            written = str(value)
            read_as[written] = (meaning[str(key)], number + read_as.get(written, (True, 0))[1])
    return Labels(meaning, read_as)


def are_usual(values: Iterable[Any], label_map: Mapping[str, bool] | None = None) -> bool:
    """Whether each label is null, a word or number that may have a meaning, or in the map: so types may differ."""
    known = {*_WORDS, *_NUMBERS[0], *_NUMBERS[1], *(label_map or ())}
    return all(value is None or spelled(value) in known for value in values)


def label_values(dataset: Dataset) -> Sequence[Any]:
    """The column `label`; class labels by their names, since their numbers say nothing."""
    values = dataset[LABEL][:]
    kind = dataset.features[LABEL]
    if isinstance(kind, ClassLabel):
        names = kind.names
        return [None if value is None else names[value] for value in values]
    return values


def parse_label_map(items: Sequence[str] | None) -> dict[str, bool] | None:
    """`["thumbs_up=true,-1=false"]` as `{"thumbs_up": True, "-1": False}`, by `spelled` labels."""
    if items is None:
        return None
    meaning: dict[str, bool] = {}
    for item in ",".join(items).split(","):
        label, equals, value = item.rpartition("=")
        said = value.strip().casefold()
        if not equals or not label.strip() or said not in ("true", "false"):
            raise UserError(
                f"--label_map {shortened(item)}: write label=true or label=false, as in thumbs_up=true,-1=false"
            )
        key = spelled(label.strip())
        if key in meaning and meaning[key] != (said == "true"):
            raise UserError(f"--label_map {shortened(label)}: is given both meanings; give it one")
        meaning[str(key)] = said == "true"
    return meaning


def spelled(value: Any) -> str | None:
    """One text for all ways to write a label: without case, skin tone, or the kind of blank; None for what is none."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value.strip().casefold().translate(_SKIN_TONES)
        number = _number(text)
        return "_".join(text.replace("-", " ").split()) if number is None else number
    return _number(value) if isinstance(value, int | float) else None


def _number(value: Any) -> str | None:
    """`+1`, `1.0` and 1 as `1`; None for what is no finite number."""
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return f"{number:g}" if math.isfinite(number) else None


def _is_number(key: str) -> bool:
    return _number(key) is not None


def _remedy(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "give every row a label, or remove the rows without"
    if isinstance(value, str):
        return f"write true or false, or say what it means with --label_map {shortened(value, 30).strip(chr(39))}=true"
    if isinstance(value, int | float):
        return (
            "write true for desirable and false for undesirable, or say what the numbers mean with --label_map "
            "1=true,0=false"
        )
    return "write true or false"
