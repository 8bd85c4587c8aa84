"""Errors and warnings addressed to the person at the keyboard.

A `UserError` carries one line: where (file, row or flag), what was wrong, what to do. The command line prints
that line and exits with code 2; library users get an ordinary `ValueError`.
"""

import reprlib
import warnings
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input, told in one line: where, what, remedy."""


class UserInputWarning(UserWarning):
    """Something in the input was handled in a named way (rows left out, labels out of balance)."""


def warn_user(message: str, stacklevel: int = 3) -> None:
    """Warn about input that is usable but probably not what was meant."""
    warnings.warn(message, UserInputWarning, stacklevel=stacklevel)


def name_rows(rows: list[int], limit: int = 5) -> str:
    """`3, 17, 40 and 12 more`: row numbers for a message, never a flood."""
    shown = ", ".join(str(row) for row in rows[:limit])
    return shown if len(rows) <= limit else f"{shown} and {len(rows) - limit} more"


def name_some(names: Iterable[str], limit: int = 10, quoted: bool = True) -> str:
    """`'a', 'b' and 40 more`: names that a file gave, for a message, never a flood."""
    known = list(names)
    listed = ", ".join(shortened(name) if quoted else shortened(name)[1:-1] for name in known[:limit])
    return listed if len(known) <= limit else f"{listed} and {len(known) - limit} more"


def shortened(value: object, limit: int = 60) -> str:
    """A value as a message shows it: its repr, cut after `limit` characters, whatever it holds."""
    text = _REPR.repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


_REPR = reprlib.Repr()
_REPR.maxlevel = 3
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 10
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 100


def is_text(word: str) -> bool:
    """Return whether a word can be written to a file: bytes that are no text arrive as lone surrogates."""
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def how_to_install(extra: str) -> str:
    """How an optional part is installed, which is from the repository: no registry has the package."""
    return f"in the repository, `pip install -c constraints.txt '.[{extra}]'`"


def first_line(error: BaseException) -> str:
    """What an error of another library says first, or its kind, for a message of one line."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".")[:300] if text else type(error).__name__
