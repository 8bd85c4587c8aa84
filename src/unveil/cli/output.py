"""What the commands write and print beside their numbers."""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unveil.errors import UserError
from unveil.files import write_text
from unveil.locks import claim_file


def require_new_file(path: str | None, overwrite: bool, flag: str = "--output_file") -> None:
    """Refuse a file that is there already or cannot be there, before any work; keep other processes from writing it."""
    if path is None:
        return
    claim_file(path, flag)
    if Path(path).exists() and not overwrite:
        raise UserError(f"{flag} {path}: is there already; give --overwrite or another name")


def write_rows(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """JSON lines, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def command(*words: str) -> str:
    """A line that can be pasted into a shell; a word of capitals or dots is for the user to fill in."""
    return "  " + " ".join('"..."' if word == "..." else shlex.quote(word) for word in words)


def excerpt(text: str, width: int = 48) -> str:
    """One line of a text."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."
