"""The process of the program: runs it, then does what its tests ask for."""

import json
import operator
import os
import sys
from collections.abc import Callable
from typing import Any

from exchange import EndedError, Peer  # pyright: ignore[reportMissingImports]
from failures import reason_of  # pyright: ignore[reportMissingImports]
from plain_data import content, encode  # pyright: ignore[reportMissingImports]


def one_object(operation: str) -> Callable[..., Any]:
    """What Python does for a `Remote` that stands for an object of this process."""
    return {
        "len": len, "bool": bool, "str": str, "repr": repr, "float": float, "int": int, "abs": abs, "round": round,
        "reversed": reversed, "iter": iter, "next": next, "index": lambda one: one.__index__(),
        "neg": lambda one: -one, "getitem": lambda one, key: one[key],
    }[operation]  # fmt: skip


ONE = (
    "len",
    "bool",
    "str",
    "repr",
    "float",
    "int",
    "abs",
    "round",
    "reversed",
    "iter",
    "next",
    "index",
    "neg",
    "getitem",
)
TWO = ("eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and",
       "or", "xor")  # fmt: skip


def call(function: Any, kept: list[Any], names: list[str]) -> Any:
    """Call with positional arguments first, then as many by name as there are names."""
    split = len(kept) - len(names)
    return function(*kept[:split], **dict(zip(names, kept[split:])))


def two_objects(operation: str) -> Callable[[Any, Any], Any]:
    """A comparison or sum of two objects of this process, as Python itself goes about it."""
    return getattr(operator, {"and": "and_", "or": "or_"}.get(operation, operation))


def serve_program(program: str, peer: Peer) -> None:
    """Run the program, say which names it has or why it failed, and serve until nobody asks any more."""
    space: dict[str, Any] = {"__name__": "solution"}
    try:
        exec(compile(program, "<program>", "exec"), space)
    except BaseException as error:
        peer.send({"failed": reason_of(error, "the program")})
        return
    names = {}
    for name, value in space.items():
        if not name.startswith("__"):
            try:
                names[name] = encode(value, peer)
                json.dumps(names[name])
            except Exception:  # nested too deeply, for instance: tests cannot use it
                names.pop(name, None)
    sys.stdout.flush()
    peer.send({"names": names})
    try:
        while True:
            peer.listen()
    except EndedError:
        os._exit(0)


def operations(peer: Callable[[], Peer]) -> dict[str, Callable[..., Any]]:
    """All that may be asked of the program: the objects are its own."""

    def held(value: Any) -> str | None:
        found = content(value, peer())
        return None if found is None else json.dumps(found)

    def leave(one: Any) -> None:
        one.__exit__(None, None, None)

    def run(coroutine: int) -> Any:
        import asyncio  # few programs need it, and it takes long

        return asyncio.run(peer().stand_in({"yours": coroutine}))

    return {
        "call": call, "content": held, "await": run, "getattr": getattr, "setattr": setattr, "exit": leave,
        "enter": lambda one: one.__enter__(), "isinstance": lambda kind, value: isinstance(value, kind),
        "issubclass": lambda kind, value: issubclass(value, kind),
        "setitem": operator.setitem, "delitem": operator.delitem,
        **{name: one_object(name) for name in ONE}, **{f"__{name}__": two_objects(name) for name in TWO},
    }  # fmt: skip
