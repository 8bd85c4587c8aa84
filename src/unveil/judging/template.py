"""Prompt templates of judges: plain text files with `{{placeholders}}`.

A file is the user's message. With a line `<<system>>` and a line `<<user>>` it is two messages. `{{prompt}}`,
`{{answer_a}}` and `{{answer_b}}` must appear; any other placeholder is a column of the data, such as `{{reference}}`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from unveil.errors import UserError
from unveil.judging.whole_text import whole_text
from unveil.small_files import read_small_text

NEEDED = ("prompt", "answer_a", "answer_b")
_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][\w.-]*)\s*\}\}")
_SINGLE = re.compile(rf"(?<!\{{)\{{({'|'.join(NEEDED)})\}}(?!\}})")
_PART = re.compile(r"(?m)^<<(\w+)>>[ \t]*$\n?")
_ROLES = ("system", "user")


@dataclass(frozen=True)
class Template:
    """Text with placeholders. `source` is the file it came from, for messages."""

    text: str
    source: str

    def __post_init__(self) -> None:
        names = set(_PLACEHOLDER.findall(self.text))
        missing = [f"{{{{{name}}}}}" for name in NEEDED if name not in names]
        if missing:
            hint = " (double braces are needed)" if _SINGLE.search(self.text) else ""
            raise UserError(f"{self.source}: lacks {', '.join(missing)}{hint}; a judge must see all of it")
        roles = _PART.findall(self.text)
        if roles and (roles[-1] != "user" or len(set(roles)) < len(roles) or not set(roles) <= set(_ROLES)):
            raise UserError(f"{self.source}: has the parts {roles}; give <<user>>, or <<system>> and <<user>>")

    @property
    def columns(self) -> tuple[str, ...]:
        """Placeholders that are columns of the data, in order."""
        names = dict.fromkeys(_PLACEHOLDER.findall(self.text))
        return tuple(name for name in names if name not in NEEDED)

    def messages(self, prompt: str, answer_a: str, answer_b: str, row: Mapping[str, Any]) -> list[dict[str, str]]:
        """Chat messages. Placeholders inside the texts that are filled in stay as they are.

        Raises:
            UserError: a placeholder that is no column of `row`.
        """
        values = {**row, "prompt": prompt, "answer_a": answer_a, "answer_b": answer_b}

        def value(found: re.Match[str]) -> str:
            if found[1] not in values:
                known = ", ".join(sorted(set(row) | set(NEEDED)))
                raise UserError(f"{self.source}: {{{{{found[1]}}}}} is no column of the data; there are {known}")
            filled = values[found[1]]
            return filled if isinstance(filled, str) else json.dumps(filled, ensure_ascii=False, default=str)

        return [
            {"role": role, "content": whole_text(_PLACEHOLDER.sub(value, part).strip())}
            for role, part in self._parts()
            if part
        ]

    def _parts(self) -> list[tuple[str, str]]:
        pieces = _PART.split(self.text)
        if len(pieces) == 1:
            return [("user", self.text)]
        return list(zip(pieces[1::2], (piece.strip() for piece in pieces[2::2]), strict=True))


def shipped_template(name: str) -> Template:
    """A template of this package: `pairwise` (reason and verdict) or `letter` (one letter, for log-probabilities)."""
    return Template(shipped_text(name), f"template {name}")


def shipped_text(name: str) -> str:
    """The text of a file in `unveil/judging/templates`."""
    return (resources.files("unveil.judging") / "templates" / f"{name}.txt").read_text(encoding="utf-8")


def read_template(path: str, flag: str = "--judge_template") -> Template:
    """A template from a file.

    Raises:
        UserError: the file cannot be read, or lacks a placeholder.
    """
    return Template(read_small_text(path, f"{flag} {path}"), f"{flag} {path}")
