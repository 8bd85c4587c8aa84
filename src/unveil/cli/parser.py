"""Dataclasses to flags (`HfArgumentParser`), with `--config run.yaml` below the flags and a help that can be read.

A key of the YAML file is a flag without its dashes; what is given on the command line wins. An `env:` map sets
environment variables. `--help` shows the flags that matter; `--help_all` every flag of `TrainingArguments` too.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser, TrainingArguments

from unveil.errors import UserError

# Flags of TrainingArguments that --help shows; the rest is one --help_all away.
SHOWN = {
    "output_dir", "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps",
    "learning_rate", "weight_decay", "max_grad_norm", "num_train_epochs", "max_steps", "lr_scheduler_type",
    "warmup_steps", "logging_steps", "eval_strategy", "eval_steps", "save_strategy", "save_steps",
    "save_total_limit", "seed", "bf16", "gradient_checkpointing", "report_to", "run_name", "load_best_model_at_end",
    "metric_for_best_model", "resume_from_checkpoint", "push_to_hub", "use_cpu", "dataloader_drop_last",
}  # fmt: skip


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` tells the flags")


def parse(dataclass_types: Sequence[type], argv: Sequence[str], prog: str, description: str) -> tuple[Any, ...]:
    """Instances of the dataclasses from flags and, below them, from the YAML file that `--config` names.

    Raises:
        UserError: unknown flag or key, unreadable file, a value of the wrong type.
    """
    parser = _parser(dataclass_types, prog, description)
    if {"-h", "--help", "--help_all"} & set(argv):
        _print_help(parser, everything="--help_all" in argv)
        raise SystemExit(0)
    name, given = _take_config(list(argv))
    from_file = _file_flags(name, parser) if name else []
    try:
        parsed = parser.parse_args_into_dataclasses([*from_file, *given], look_for_args_file=False)
    except (ValueError, TypeError, ImportError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{' '.join(str(error).split())}; check the flags") from error
    return parsed


def _parser(dataclass_types: Sequence[type], prog: str, description: str) -> _Parser:
    return _Parser(
        list(dataclass_types),
        prog=prog,
        description=description,
        add_help=False,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=110),
    )


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


def _file_flags(name: str, parser: argparse.ArgumentParser) -> list[str]:
    """The keys of a YAML file as flags."""
    try:
        with open(name, encoding="utf-8") as file:
            values = yaml.safe_load(file) or {}
    except OSError as error:
        raise UserError(f"--config {name}: cannot be read ({error.strerror}); check the path") from error
    except yaml.YAMLError as error:
        raise UserError(f"--config {name}: is not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise UserError(f"--config {name}: must hold `flag: value` lines")
    for variable, value in (values.pop("env", None) or {}).items():
        os.environ[str(variable)] = str(value)
    known = {option.removeprefix("--") for action in parser._actions for option in action.option_strings}
    flags: list[str] = []
    for key, value in values.items():
        if str(key) not in known:
            raise UserError(f"--config {name}: unknown key {key!r}; keys are flags without their dashes")
        if isinstance(value, list):
            flags += [f"--{key}", *map(str, value)]
        elif value is not None:
            flags += [f"--{key}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return flags


def _print_help(parser: argparse.ArgumentParser, everything: bool) -> None:
    inherited = {f.name for f in dataclasses.fields(TrainingArguments)}
    ours = {"draw_seed"}
    for action in parser._actions:
        hidden = action.dest in inherited and action.dest not in SHOWN | ours
        twin = any(option.startswith("--no_") for option in action.option_strings) or action.dest == "help"
        if (hidden or twin) and not everything:
            action.help = argparse.SUPPRESS
    parser.usage = f"{parser.prog} [--config FILE.yaml] [flags]"
    parser.add_argument("--config", metavar="FILE", help="YAML file with flags as keys; flags win over it.")
    parser.add_argument("--help_all", action="store_true", help="Every flag, those of TrainingArguments included.")
    # Plain `%` of the libraries' help texts are not format codes.
    for action in parser._actions:
        if action.help and action.help is not argparse.SUPPRESS:
            action.help = action.help.replace("(default: %(default)s)", "").replace("%", "%%")
            if action.default not in (None, argparse.SUPPRESS, [], "", False):
                action.help += f" [{getattr(action.default, 'value', action.default)}]"
    parser.print_help(sys.stdout)
