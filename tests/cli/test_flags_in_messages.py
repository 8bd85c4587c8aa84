"""Every flag that a message, a help text or a page of the documentation names is a flag of some command."""

import ast
import importlib
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from transformers import TrainingArguments

import unveil
from unveil.cli.main import COMMANDS
from unveil.demo.recipe import Recipe

SOURCE = Path(unveil.__file__).parent
ROOT = Path(__file__).parents[2]
FLAG = re.compile(r"(?<![\w-])--([A-Za-z][A-Za-z0-9_-]*)")
# Of the parser itself, of accelerate and pip.
OTHERS = {
    "help", "help_all", "config", "version", "multi_gpu", "no-binary", "no-deps",
}  # fmt: skip
# Flags of another program, in the file that starts it or speaks of it; nowhere else.
OF_ANOTHER_PROGRAM = {
    "judging/sandbox_view.py": {  # bubblewrap
        "bind", "cap-add", "cap-drop", "dev", "dev-bind", "die-with-parent", "remount-ro", "ro-bind", "size", "tmpfs",
        "unshare-all",
    },
    "training/launch_checks.py": {"cpu", "nproc_per_node", "num_processes", "quiet"},  # accelerate, torchrun
}  # fmt: skip
# Beginnings and placeholders: `--judge_...`, `--flag`.
PATTERNS = {"judge_", "dataloader_", "flag"}


def known_flags() -> set[str]:
    """The flags of all commands: the fields of every dataclass in their modules."""
    flags = {field.name for field in fields(TrainingArguments)} | OTHERS
    for command in COMMANDS:
        module = importlib.import_module(f"unveil.cli.{command}")
        for value in vars(module).values():
            if isinstance(value, type) and is_dataclass(value):
                for field in fields(value):
                    flags |= {field.name, *(alias.removeprefix("--") for alias in field.metadata.get("aliases", ()))}
    return flags


def declared_in(file: Path) -> set[str]:
    """The flags that a module with a parser of its own declares."""
    return {
        node.args[0].value.removeprefix("--")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
        if isinstance(node.args[0], ast.Constant)
    }


def texts_of(file: Path) -> list[tuple[int, str]]:
    """Line numbers and texts of the string constants of a file."""
    tree = ast.parse(file.read_text())
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_every_flag_that_the_code_names_exists():
    known = known_flags() | PATTERNS | {name for file in SOURCE.rglob("*.py") for name in declared_in(file)}
    known |= {field.name for field in fields(Recipe)}  # of `python -m benchmarks.demo`
    unknown = [
        f"{file.relative_to(SOURCE)}:{line}: --{name}"
        for file in sorted(SOURCE.rglob("*.py"))
        for line, text in texts_of(file)
        for name in FLAG.findall(text)
        if name not in known
        if name not in OF_ANOTHER_PROGRAM.get(str(file.relative_to(SOURCE)), ())
    ]
    assert not unknown


@pytest.mark.parametrize("page", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md"))])
def test_every_flag_of_an_unveil_command_in_the_documentation_exists(page):
    known = known_flags()
    text = (ROOT / page).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if re.search(r"\bunveil [a-z]+ .*--", line)]
    assert not {name for line in lines for name in FLAG.findall(line) if name not in known and "benchmarks" not in line}
