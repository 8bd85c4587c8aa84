"""Dataclasses to flags (`HfArgumentParser`), with `--config run.yaml` below the flags.

A key of the YAML file is a flag without its dashes; what is given on the command line wins. An `env:` map sets
environment variables. `--help` shows the flags that matter; `--help_all` every flag of `TrainingArguments` too.
"""

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from transformers import HfArgumentParser, TrainingArguments
from transformers.hf_argparser import string_to_bool

from unveil.cli.help_page import help_page
from unveil.errors import UserError, shortened
from unveil.yaml_files import read_yaml


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` tells the flags")

    def is_truth(self, name: str) -> bool:
        """Whether a flag takes true or false."""
        return any(f"--{name}" in each.option_strings and each.type is string_to_bool for each in self._actions)

    def names(self) -> list[str]:
        """Every flag without its dashes."""
        return [option.removeprefix("--") for action in self._actions for option in action.option_strings]


def parse(
    dataclass_types: Sequence[type],
    argv: Sequence[str],
    prog: str,
    description: str,
    required: Mapping[str, str] | None = None,
) -> tuple[Any, ...]:
    """Instances of the dataclasses from flags and, below them, from the YAML file that `--config` names.

    Args:
        dataclass_types: their fields are the flags; no two may share a field.
        argv: the flags as given.
        prog: what the user typed, `unveil train`.
        description: one or two sentences for `--help`.
        required: fields that must be given, with what they are.

    Raises:
        UserError: unknown flag or key, missing flag, unreadable file, a value of the wrong type.
    """
    parser = _parser(dataclass_types, prog)
    if {"-h", "--help", "--help_all"} & set(argv):
        print(help_page(parser, dataclass_types, description, everything="--help_all" in argv))
        raise SystemExit(0)
    return _instances(parser, _checked(parser, argv, required or {}))


@dataclass(frozen=True)
class CommandLine:
    """The flags of a command, as `parse` takes them, to be read or only checked."""

    dataclass_types: Sequence[type]
    prog: str
    description: str
    required: Mapping[str, str]

    def read(self, argv: Sequence[str]) -> tuple[Any, ...]:
        """What `parse` gives."""
        return parse(self.dataclass_types, argv, self.prog, self.description, self.required)

    def check(self, argv: Sequence[str], partial: bool = False) -> None:
        """Refuse what `read` would refuse.

        partial: these are some of the flags, so none is missing, and none is held against another. Arguments of
        transformers are never made, since making them takes hold of a device: their words alone are checked.

        Raises:
            UserError: as `parse` does.
        """
        parser = _parser(self.dataclass_types, self.prog)
        flags = _checked(parser, argv, {} if partial else self.required)
        if not partial and not any(issubclass(each, TrainingArguments) for each in self.dataclass_types):
            _instances(parser, flags)


def _parser(dataclass_types: Sequence[type], prog: str) -> _Parser:
    types: Any = dataclass_types  # transformers wants to know that they are dataclasses
    return _Parser(list(types), prog=prog, add_help=False, allow_abbrev=False)


def _checked(parser: _Parser, argv: Sequence[str], required: Mapping[str, str]) -> list[str]:
    """All flags, those of the file included, if each is known, of its type, and none is missing."""
    name, given = _take_config(list(argv))
    flags = [*(_file_flags(name, parser, given) if name else []), *given]
    values, rest = parser.parse_known_args(flags)
    if rest:
        _refuse_unknown(rest, parser)
    for field, what in required.items():
        if not getattr(values, field):
            raise UserError(f"--{field}: is missing; give {what}")
    return flags


def _instances(parser: _Parser, flags: list[str]) -> tuple[Any, ...]:
    try:
        return parser.parse_args_into_dataclasses(flags, look_for_args_file=False)
    except (ValueError, TypeError, ImportError, OSError, LookupError, AttributeError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{' '.join(str(error).split())}; check the flags") from error


def _refuse_unknown(rest: list[str], parser: _Parser) -> NoReturn:
    flags = [item.split("=")[0] for item in rest if item.startswith("-")]
    if not flags:
        raise UserError(f"{rest[0]!r}: belongs to no flag; `{parser.prog} --help` tells the flags")
    hint = _closest(flags[0].lstrip("-"), parser)
    raise UserError(f"{', '.join(flags)}: unknown flag{hint}; `{parser.prog} --help` tells the flags")


def _closest(name: str, parser: _Parser) -> str:
    found = difflib.get_close_matches(name, [known for known in parser.names() if "-" not in known], n=1)
    return f" (close to --{found[0]})" if found else ""


def _take_config(argv: list[str]) -> tuple[str | None, list[str]]:
    """Split `--config FILE` (or `--config=FILE`) off."""
    for index, item in enumerate(argv):
        if item == "--config":
            if index + 1 == len(argv):
                raise UserError("--config: a file name must follow")
            return argv[index + 1], argv[:index] + argv[index + 2 :]
        if item.startswith("--config="):
            return item.removeprefix("--config="), argv[:index] + argv[index + 1 :]
    return None, argv


def _file_flags(name: str, parser: _Parser, given: Sequence[str]) -> list[str]:
    """The keys of a YAML file as flags, but for those that the command line gives too."""
    where = f"--config {name}"
    values = read_yaml(name, "--config") or {}
    if not isinstance(values, dict):
        raise UserError(f"{where}: must hold `flag: value` lines; correct it")
    _set_environment(values.pop("env", None) or {}, where)
    known, above = set(parser.names()), {item.split("=")[0].removeprefix("--").replace("-", "_") for item in given}
    flags: list[str] = []
    for key, value in values.items():
        if str(key) not in known:
            hint = _closest(str(key), parser)
            raise UserError(f"{where}: unknown key {shortened(key)}{hint}; keys are flags without their dashes")
        if value is None or str(key).replace("-", "_") in above:
            continue
        flags += _as_flag(str(key), value, parser, where)
    return flags


def _set_environment(variables: Any, where: str) -> None:
    """Set the variables of `env:`; each is a name with one plain value.

    Raises:
        UserError: no mapping, a name or a value that no environment can hold.
    """
    if not isinstance(variables, dict):
        raise UserError(f"{where}: env: must hold `VARIABLE: value` lines; correct it")
    for variable, value in variables.items():
        text = str(value)
        if isinstance(value, dict | list) or value is None or "\0" in text:
            raise UserError(f"{where}: env: {shortened(variable)} must have one plain value; correct it")
        if not str(variable) or set("=\0") & set(str(variable)):
            raise UserError(f"{where}: env: {shortened(variable)} is no name of a variable; correct it")
        os.environ[str(variable)] = text


def _as_flag(key: str, value: Any, parser: _Parser, where: str) -> list[str]:
    """One key of the file as a flag; `on` and `off` are truth values where the flag is one."""
    if isinstance(value, list):
        if any(isinstance(each, dict | list) or each is None for each in value):
            raise UserError(f"{where}: {key}: must be a list of plain values; correct it")
        return [f"--{key}", *map(str, value)]
    if isinstance(value, str) and value.lower() in ("on", "off") and parser.is_truth(key):
        value = value.lower() == "on"
    return [f"--{key}={json.dumps(value) if isinstance(value, dict) else value}"]
