"""Read YAML files as people write them: by the core rules of YAML 1.2, without surprises.

PyYAML reads YAML 1.1, where `no` is false, `1e-7` is text and `1:30` is ninety. Here `no` is text, `1e-7` is a number,
and true and false are the only truth values. A key that stands twice, a value that contains itself and a file that
unfolds to more than it says are refused.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from unveil.errors import UserError
from unveil.small_files import read_small_text

# Values that a file may unfold to through aliases: far above any real file, far below what fills a memory.
MOST_VALUES = 100_000
_DEEPEST = 50


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema and without keys that stand twice."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Make a dictionary; the keys of a merge (`<<`) may be overridden, others may not."""
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "merge": (r"<<", "<"),
}
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    if len(text) > 100:
        raise yaml.constructor.ConstructorError(None, None, "a number of over 100 digits", node.start_mark)
    return int(text, 0) if text.startswith(("0x", "0o")) else int(text)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def read_yaml(path: str | Path, flag: str) -> Any:
    """Return what a YAML file holds (None for an empty one); `flag` names it in errors.

    Raises:
        UserError: the file cannot be read, is not YAML, or is more than a settings file should be.
    """
    where = f"{flag} {path}"
    text = read_small_text(path, where)
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: is not valid YAML ({_told(error)}); correct it") from error
    except RecursionError as error:
        raise UserError(f"{where}: is nested too deeply; write it flatter") from error
    _count(value, where, 0, [])
    return value


def _told(error: yaml.YAMLError) -> str:
    """The parser's words in one short line."""
    line = " ".join(str(error).split())
    return line if len(line) <= 200 else line[:197] + "..."


def _count(value: Any, where: str, counted: int, above: list[int]) -> int:
    """Count the values as they unfold; refuse too many of them, and one that contains itself."""
    counted += 1
    if counted > MOST_VALUES:
        raise UserError(f"{where}: its aliases unfold to more than {MOST_VALUES} values; write fewer")
    if value is None or isinstance(value, str | int | float):
        return counted
    if not isinstance(value, dict | list):
        raise UserError(f"{where}: holds a {type(value).__name__}, which is not plain data; write text or numbers")
    if id(value) in above:
        raise UserError(f"{where}: a value contains itself; leave the alias out")
    if len(above) >= _DEEPEST:
        raise UserError(f"{where}: is nested too deeply; write it flatter")
    for inner in value.values() if isinstance(value, dict) else value:
        counted = _count(inner, where, counted, [*above, id(value)])
    return counted
