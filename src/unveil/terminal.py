"""Text of models, data and endpoints on a terminal: shown, never obeyed, never read as markup."""

import sys
import unicodedata
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

# Controls, halves of characters, and what ends lines or turns the direction of all that follows.
_OBEYED = ("Cc", "Cs", "Zl", "Zp")
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, keep: str = "\n\t") -> str:
    r"""Write what a terminal would obey as its escape (`\x1b`, `\u202e`), but for the characters in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if c not in keep and _is_obeyed(c) else c for c in text)


def one_line(text: str) -> str:
    """`printable`, line ends and tabs too: for a message that is one line, a table cell, a title."""
    return printable(text, keep="")


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print lines that may hold a user's or a model's text."""
    print(*(printable(str(line)) for line in lines), sep="\n", file=file or sys.stdout, flush=True)


class PlainConsole(Console):
    """rich's console for text of any origin: no markup and no emoji codes are read, no control character passes."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(markup=False, emoji=False, **kwargs)

    def render_str(self, text: str, **kwargs: Any) -> Text:  # type: ignore[override]
        return super().render_str(printable(text), **kwargs)


def _is_obeyed(character: str) -> bool:
    return character in _DIRECTIONS or unicodedata.category(character) in _OBEYED
