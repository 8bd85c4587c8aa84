"""A fixed order of held-out items that has nothing to do with the file, which has liked reviews first."""

import hashlib
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def in_hash_order(items: Iterable[Item], text_of: Callable[[Item], str]) -> list[Item]:
    """The items by the sha256 of their text, so that the first n of them are a fair sample."""
    return sorted(items, key=lambda item: hashlib.sha256(text_of(item).encode("utf-8")).digest())
