"""Secrets that a command line may hold: they are never written beside results."""

import contextlib
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

HIDDEN = "<hidden>"
# `--hub_token`, `hub-token`, `api_key`, but not `--tokens_per_batch` and not `--mask_token_id`.
_NAME = re.compile(r"(^|[-_.])(token|password|passwd|secret|api_?key|access_?key|credentials?)$", re.IGNORECASE)
_VALUES = (
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), HIDDEN),  # of the hub
    (re.compile(r"\bsk-[\w-]{16,}"), HIDDEN),  # of an endpoint
    (re.compile(r"(?<=://)[^/@\s]+@"), f"{HIDDEN}@"),  # user and password in an address
)


def names_a_secret(name: str) -> bool:
    """Tell whether a flag or a key of this name holds a secret."""
    return bool(_NAME.search(name.lstrip("-")))


def without_secrets(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with `<hidden>` in the place of tokens, passwords and keys."""
    shown, hide = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        is_flag = word.startswith("--")
        if hide and not is_flag:
            word = HIDDEN
        elif equals and names_a_secret(name):
            word = f"{name}={HIDDEN}"
        for pattern, instead in _VALUES:
            word = pattern.sub(instead, word)
        hide = is_flag and not equals and names_a_secret(name)
        shown.append(word)
    return shown


def shown_command(words: Sequence[str]) -> str:
    """Return a line that can be pasted into a shell, without secrets."""
    return shlex.join(without_secrets(words))


@contextlib.contextmanager
def hub_token_left_out(args: Any) -> Iterator[None]:
    """Take `hub_token` off the arguments while they are written to a file."""
    token, args.hub_token = args.hub_token, None
    try:
        yield
    finally:
        args.hub_token = token
