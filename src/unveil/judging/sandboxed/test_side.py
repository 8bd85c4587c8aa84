"""The process of the tests: the program's names are stand-ins here, and what is compared is compared here."""

import ast
import builtins
import importlib
from collections.abc import Callable
from typing import Any

from exchange import EndedError, Peer, Remote  # pyright: ignore[reportMissingImports]
from failures import reason_of  # pyright: ignore[reportMissingImports]
from plain_data import MODULES, decode  # pyright: ignore[reportMissingImports]
from program_side import ONE, TWO, call, one_object, two_objects  # pyright: ignore[reportMissingImports]

_TESTS = "tests"
_ALIASES = {"np": "numpy"}
# What tests compare with, under the names that programs import: name -> module.
_STANDARD = {
    **dict.fromkeys(("Counter", "OrderedDict", "defaultdict", "deque", "namedtuple"), "collections"),
    **dict.fromkeys(("date", "datetime", "timedelta"), "datetime"),
    "Decimal": "decimal", "Fraction": "fractions", "isclose": "math", "isnan": "math",
}  # fmt: skip


def run_tests(tests: str, peer: Peer) -> str | None:
    """Why the program does not pass its tests; None if it does. Raises EndedError if it is gone."""
    told = peer.listen()
    if "failed" in told:
        return str(told["failed"])
    try:
        tree = ast.parse(tests, "<tests>")
    except (SyntaxError, ValueError, RecursionError) as error:
        return reason_of(error, "a test")
    try:
        space = {"__name__": _TESTS, "__builtins__": builtins, **_names(dict(told["names"]), tree, peer)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ImportError) as error:
        raise EndedError from error
    try:
        _run(tests, space)
    except EndedError:
        raise
    except BaseException as error:
        if peer.ended:
            raise EndedError from error
        return reason_of(error, "a test")
    if peer.ended:  # a test may have caught it
        raise EndedError
    return None


def _names(told: dict[str, Any], tree: ast.AST, peer: Peer) -> dict[str, Any]:
    """The program's names that tests may use.

    A test that says `abs`, `Counter` or `math.isclose` means Python's, whatever the program calls so; unless the tests
    use nothing else of the program's: then a function of that name is what they test.
    """
    told = {name: value for name, value in told.items() if not name.startswith("__")}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    opened = {
        node.value.id for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    meant = {name: _ALIASES.get(name, name) for name in opened if _ALIASES.get(name, name) in MODULES}
    own = {name for name in told if not hasattr(builtins, name) and name not in meant and name not in _STANDARD}
    found: dict[str, Any] = {}
    for name, value in told.items():
        if name in meant:
            found[name] = importlib.import_module(meant[name])
        elif not used & own or name in own:
            found[name] = decode(value, peer)
        elif name in _STANDARD:
            found[name] = getattr(importlib.import_module(_STANDARD[name]), name)
    return found


def _run(tests: str, space: dict[str, Any]) -> None:
    before = dict(space)
    exec(compile(tests, "<tests>", "exec"), space)
    for name, value in list(space.items()):
        if value is before.get(name) or type(value) is Remote:
            continue
        if name.startswith("test") and callable(value):
            value()
        elif isinstance(value, type) and hasattr(value, "defaultTestResult"):
            _run_case(value)


def _run_case(case: Any) -> None:
    import unittest

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    for test, trace in result.failures + result.errors:
        raise AssertionError(f"{test.id().split('.')[-1]}: {trace.strip().splitlines()[-1]}")


def operations() -> dict[str, Callable[..., Any]]:
    """What the program may ask of what tests hand to it: to call it, and to use public parts of their own objects."""

    def own(value: Any, name: str) -> Any:
        if name.startswith("_") or type(value).__module__ != _TESTS:
            raise AttributeError(f"{type(value).__name__!r} object has no attribute {name!r} here")
        return value

    def read(value: Any, name: str) -> Any:
        return getattr(own(value, str(name)), name)

    def write(value: Any, name: str, new: Any) -> None:
        setattr(own(value, str(name)), name, new)

    return {
        "call": call, "getattr": read, "setattr": write, "content": lambda one: None,
        "isinstance": lambda kind, value: isinstance(value, kind),
        **{name: one_object(name) for name in ONE}, **{f"__{name}__": two_objects(name) for name in TWO},
    }  # fmt: skip
