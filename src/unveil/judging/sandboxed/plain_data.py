"""Values of the standard types as JSON, so that what arrives is rebuilt from numbers and letters alone.

An object of any other type is not sent: `Books.export` gives it a number, and the other side has a stand-in.
"""

import builtins
import collections
import importlib
import sys
from typing import Any, Protocol

# Modules that tests may use by the name under which the program imported them; they do no harm in any hands.
MODULES = frozenset((
    "abc", "array", "asyncio", "base64", "bisect", "calendar", "cmath", "collections", "contextlib", "copy",
    "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "io", "itertools",
    "json", "math", "numbers", "numpy", "operator", "os", "queue", "random", "re", "statistics", "string", "struct",
    "sys", "textwrap", "threading", "time", "types", "typing", "unicodedata", "unittest",
))  # fmt: skip
_DATES = ("date", "time", "datetime")


class Books(Protocol):
    """Which objects are known by number to both sides."""

    def export(self, value: Any) -> Any: ...

    def stand_in(self, told: Any) -> Any: ...


def encode(value: Any, books: Books) -> Any:
    """`value` as something that JSON can hold; lists of JSON are lists, everything else is `{"kind": content}`."""
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value
    if kind is int:
        return value if value.bit_length() < 10_000 else {"int": hex(value)}
    if kind is list:
        return [encode(part, books) for part in value]
    if kind in (tuple, set, frozenset, collections.deque):
        return {kind.__name__: [encode(part, books) for part in value]}
    if kind in (dict, collections.OrderedDict, collections.Counter, collections.defaultdict):
        name = "dict" if kind is collections.defaultdict else kind.__name__
        return {name: [[encode(key, books), encode(part, books)] for key, part in value.items()]}
    return _rarer(value, kind, books)


def _rarer(value: Any, kind: Any, books: Books) -> Any:
    if kind in (bytes, bytearray):
        return {kind.__name__: value.decode("latin-1")}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    if kind in (_loaded("decimal", "Decimal"), _loaded("fractions", "Fraction")):
        return {kind.__name__: str(value)}
    if kind in [_loaded("datetime", name) for name in _DATES] and not getattr(value, "tzinfo", None):
        return {kind.__name__: value.isoformat()}
    if kind is _loaded("datetime", "timedelta"):
        return {"timedelta": [value.days, value.seconds, value.microseconds]}
    if kind in (range, slice):
        return {kind.__name__: [value.start, value.stop, value.step]}
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return {"namedtuple": [kind.__name__, list(value._fields), [encode(part, books) for part in value]]}
    if kind is type(sys) and value.__name__ in MODULES:
        return {"module": value.__name__}
    numpy: Any = sys.modules.get("numpy")
    if numpy and isinstance(value, numpy.generic) and not isinstance(value, numpy.void):
        return encode(value.item(), books)
    if numpy and kind is numpy.ndarray and value.dtype.kind in "biufcSU":
        return {"array": [value.dtype.str, list(value.shape), encode(value.ravel().tolist(), books)]}
    if isinstance(value, type) and issubclass(value, BaseException):
        return {"exception": [value.__name__, _builtin_base(value), books.export(value)]}
    if isinstance(value, str):
        return encode(str.__str__(value), books)
    if isinstance(value, int):
        return encode(int.__pos__(value), books)
    if isinstance(value, float):
        return encode(float.__pos__(value), books)
    return {"object": books.export(value)}


def _loaded(module: str, name: str) -> Any:
    """A type of a module that is imported only by programs that use it; there are no objects of it before."""
    return getattr(sys.modules.get(module), name, NotImplemented)


def content(value: Any, books: Books) -> Any:
    """What an object of a class derived from a container holds, as the container; None for any other object."""
    for plain in (list, tuple, set, frozenset, dict):
        if isinstance(value, plain):
            return encode(plain(value), books)
    return None


def decode(told: Any, books: Books) -> Any:
    """The value that `encode` was given, made anew. Raises ValueError, TypeError or KeyError for anything else."""
    if isinstance(told, list):
        return [decode(part, books) for part in told]
    if not isinstance(told, dict):
        return told
    ((kind, inside),) = told.items()
    if kind in ("tuple", "set", "frozenset", "deque"):
        made = getattr(builtins, kind, None) or collections.deque
        return made(decode(part, books) for part in inside)
    if kind in ("dict", "OrderedDict", "Counter"):
        pairs = [(decode(key, books), decode(part, books)) for key, part in inside]
        return dict(pairs) if kind == "dict" else getattr(collections, kind)(dict(pairs))
    return _rarer_from(kind, inside, books)


def _rarer_from(kind: str, inside: Any, books: Books) -> Any:
    if kind == "object":
        return books.stand_in(inside)
    if kind == "exception":
        name, base, number = inside
        return exception_class(str(name), str(base), number, books)
    if kind == "int":
        return int(inside, 16)
    if kind in ("bytes", "bytearray"):
        return getattr(builtins, kind)(inside.encode("latin-1"))
    if kind in ("complex", "range", "slice"):
        return getattr(builtins, kind)(*inside)
    if kind in ("Decimal", "Fraction"):
        return getattr(importlib.import_module("decimal" if kind == "Decimal" else "fractions"), kind)(inside)
    if kind in _DATES:
        return getattr(importlib.import_module("datetime"), kind).fromisoformat(inside)
    if kind == "timedelta":
        return importlib.import_module("datetime").timedelta(*inside)
    if kind == "namedtuple":
        name, fields, values = inside
        return collections.namedtuple(name, fields)(*[decode(part, books) for part in values])
    if kind == "module" and inside in MODULES:
        return importlib.import_module(inside)
    if kind == "array":
        numpy = importlib.import_module("numpy")
        dtype, shape, values = inside
        return numpy.array(decode(values, books), dtype=dtype).reshape(shape)
    raise ValueError(f"no value of kind {kind}")


def exception_class(name: str, base: str, number: Any, books: Any) -> Any:
    """The built-in exception of that name, or a class of that name made for the program's own."""
    found = getattr(builtins, base, Exception)
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        found = Exception
    if name == base:
        return found
    key = (name, "mine" in number, *number.values())
    if key not in books.exceptions:
        books.exceptions[key] = type(name, (found,), {})
    return books.exceptions[key]


def _builtin_base(kind: type) -> str:
    return next(base.__name__ for base in kind.__mro__ if base.__module__ == "builtins")
