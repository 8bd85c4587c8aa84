"""Two processes that call each other's functions and use each other's objects, with plain data between them.

What a test compares is data that the test's own process has made anew; a comparison of an object of the program with
data is decided there too, never by the object. Only two objects of the program are compared by the program.
"""

import contextlib
import io
import json
import os
import struct
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from plain_data import decode, encode  # pyright: ignore[reportMissingImports]

_LARGEST = 1 << 28


class EndedError(BaseException):
    """The other process is gone, or said what cannot be read: no `except Exception` of a test takes it for its own."""


class Peer:
    """The other process.

    serves: what it may ask for: operation -> function of its decoded arguments. told: what to do with a message that is
    no question.
    """

    def __init__(self, reading: int, writing: int, serves: dict[str, Callable[..., Any]], told: Callable[[str], None]):
        self._reading, self._writing, self._serves, self._told = reading, writing, serves, told
        self.exceptions: dict[Any, type] = {}
        self.ended = False
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._stand_ins: weakref.WeakValueDictionary[int, Remote] = weakref.WeakValueDictionary()

    def export(self, value: Any) -> Any:
        """The number of an object, and what it can do; one of the other side is named by its own number."""
        if type(value) is Remote:
            return {"yours": _number_of(value)}
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)  # which keeps it alive, and its id its own
        return {"mine": self._numbers[id(value)], "coroutine": isinstance(value, types.CoroutineType)}

    def stand_in(self, told: Any) -> Any:
        """The object that the other side means."""
        if "yours" in told:
            return self._objects[told["yours"]]
        number = int(told["mine"])
        if told.get("coroutine"):
            return self._awaited(number)
        found = self._stand_ins.get(number)
        if found is None:
            found = self._stand_ins[number] = Remote(self, number)
        return found

    async def _awaited(self, number: int) -> Any:
        return self.ask("await", number)

    def ask(self, operation: str, *arguments: Any, kept: tuple[Any, ...] = ()) -> Any:
        """Ask for an operation; whatever it raises is raised here. kept: lists and the like that it may change."""
        capture = sys.stdout is not sys.__stdout__
        self.send({"ask": operation, "with": encode(list(arguments), self), "capture": capture})
        answer = self.listen()
        try:
            if answer.get("printed"):
                sys.stdout.write(str(answer["printed"]))
            if "raised" in answer:
                kind, arguments_of_it, words = decode(answer["raised"], self)
            else:
                for number, now in answer.get("changed", []):
                    _put_into(kept[number], decode(now, self))
                same = answer.get("same")
                return decode(answer["gave"], self) if same is None else kept[same]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise self._end() from error
        raise _made(kind, arguments_of_it, words)

    def listen(self) -> dict[str, Any]:
        """Serve what is asked until an answer comes."""
        while True:
            message = self._receive()
            if "ask" in message:
                self._serve(message)
            elif "told" in message:
                self._told(str(message["told"]))
            else:
                return message

    def send(self, message: dict[str, Any]) -> None:
        """Raises EndedError if nobody listens."""
        data = json.dumps(message).encode()
        left = memoryview(struct.pack("Q", len(data)) + data)
        try:
            while left:
                left = left[os.write(self._writing, left) :]
        except OSError as error:
            raise self._end() from error

    def _receive(self) -> dict[str, Any]:
        try:
            (length,) = struct.unpack("Q", self._read(8))
            if length > _LARGEST:
                raise self._end()
            message = json.loads(self._read(length))
        except (ValueError, RecursionError) as error:
            raise self._end() from error
        if not isinstance(message, dict):
            raise self._end()
        return message

    def _read(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = os.read(self._reading, min(count - len(parts), 1 << 20))
            if not part:
                raise self._end()
            parts += part
        return bytes(parts)

    def _end(self) -> EndedError:
        self.ended = True
        return EndedError()

    def _serve(self, message: dict[str, Any]) -> None:
        answer: dict[str, Any] = {}
        printed = io.StringIO()
        try:
            arguments = decode(message["with"], self)
            work = self._serves[message["ask"]]
            with contextlib.redirect_stdout(printed) if message.get("capture") else contextlib.nullcontext():
                result = work(*arguments)
            if message["ask"] == "call":
                answer = self._changes(message["with"], arguments, result)
            answer["gave"] = encode(result, self) if answer.get("same") is None else None
        except EndedError:
            raise
        except BaseException as error:
            answer = {"raised": self._raised(error)}
        answer["printed"] = printed.getvalue()
        self.send(answer)

    def _changes(self, sent: Any, arguments: list[Any], result: Any) -> dict[str, Any]:
        """What a call did to the lists and dictionaries it was given, and which of them it gave back."""
        given = arguments[1]
        now = [encode(part, self) if isinstance(part, _CHANGING) else None for part in given]
        changed = [[i, part] for i, part in enumerate(now) if part is not None and part != sent[1][i]]
        same = next((i for i, part in enumerate(given) if part is result and isinstance(part, _CHANGING)), None)
        return {"changed": changed, "same": same}

    def _raised(self, error: BaseException) -> Any:
        try:
            words = str(error)
        except Exception:
            words = ""
        try:
            return encode([type(error), list(error.args), words], self)
        except Exception:
            return encode([type(error), [words], words], self)


_CHANGING = (list, dict, set, bytearray)


def _put_into(old: Any, new: Any) -> None:
    if type(old) is not type(new):
        raise TypeError("another kind")
    if isinstance(old, list | bytearray):
        old[:] = new
    else:
        old.clear()
        old.update(new)


def _made(kind: Any, arguments: Any, words: Any) -> BaseException:
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        return EndedError()
    try:
        return kind(*arguments)
    except Exception:
        return RuntimeError(f"{kind.__name__}: {words}")


def _number_of(remote: Any) -> int:
    return object.__getattribute__(remote, "_number")


def _peer_of(remote: Any) -> Peer:
    return object.__getattribute__(remote, "_peer")


def _ask(remote: Any, operation: str, *more: Any) -> Any:
    return _peer_of(remote).ask(operation, remote, *more)


def _plain(remote: Any) -> Any:
    """What a list or the like of the program's own class holds; NotImplemented for any other object."""
    found = _ask(remote, "content")
    return NotImplemented if found is None else decode(json.loads(found), _peer_of(remote))


def _compared(operation: str, unequal: Any) -> Any:
    def compare(self: Any, other: Any) -> Any:
        if type(other) is Remote:
            return bool(_ask(self, operation, other))
        held = _plain(self)
        if held is NotImplemented:
            return unequal
        return getattr(held, operation)(other)

    return compare


def _joined(operation: str) -> Any:
    def join(self: Any, other: Any) -> Any:
        if type(other) is Remote:
            return _ask(self, operation, other)
        held = _plain(self)
        return held if held is NotImplemented else getattr(held, operation)(other)

    return join


class Remote:
    """A stand-in for an object of the other process."""

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "__dict__"):
            return object.__getattribute__(self, name)
        if name == "__next__":
            return lambda: _ask(self, "next")
        return _ask(self, "getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "setattr", name, value)

    def __call__(self, *given: Any, **named: Any) -> Any:
        kept = (*given, *named.values())
        try:
            return _peer_of(self).ask("call", self, list(kept), list(named), kept=kept)
        except StopIteration as error:  # `map` and `zip` would end there, and a loop over them would check nothing
            raise RuntimeError("a call raised StopIteration") from error

    def __iter__(self) -> Iterator[Any]:
        return _ask(self, "iter")

    def __next__(self) -> Any:
        return _ask(self, "next")

    def __contains__(self, value: Any) -> bool:
        return any(part is value or part == value for part in self)

    def __hash__(self) -> int:
        return hash(_number_of(self))

    def __instancecheck__(self, value: Any) -> bool:
        return bool(_ask(self, "isinstance", value))

    def __subclasscheck__(self, value: Any) -> bool:
        return bool(_ask(self, "issubclass", value))

    def __exit__(self, *error: Any) -> None:
        _ask(self, "exit")

    __eq__ = _compared("__eq__", False)
    __ne__ = _compared("__ne__", True)


for _name in ("__lt__", "__le__", "__gt__", "__ge__"):
    setattr(Remote, _name, _compared(_name, NotImplemented))
for _name in ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    setattr(Remote, f"__{_name}__", _joined(f"__{_name}__"))


def _forwarded(operation: str) -> Any:
    return lambda self, *more: _ask(self, operation, *more)


# One object alone, so that it does not learn what it is compared with.
for _name in ("len", "bool", "str", "round", "repr", "float", "int", "index", "neg", "abs", "getitem", "setitem",
              "delitem", "enter", "reversed"):  # fmt: skip
    setattr(Remote, f"__{_name}__", _forwarded(_name))
