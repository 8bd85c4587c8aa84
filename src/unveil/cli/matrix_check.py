"""The flags that a matrix declares, held against the commands that will get them before any of them runs."""

import importlib
from collections.abc import Iterator
from pathlib import Path

from unveil.cli.parser import CommandLine
from unveil.errors import UserError
from unveil.evaluation.grid import Flags, Grid
from unveil.evaluation.grid_steps import steps_of, words_of


def check_flags(grid: Grid, output_dir: Path, file: str) -> None:
    """Refuse flags that a command would refuse; every distinct set is parsed once, not once per cell.

    Raises:
        UserError: the file, the place in it, and what the command says.
    """
    lines: dict[str, CommandLine] = {}

    def check(place: str, command: str, words: tuple[str, ...], partial: bool) -> None:
        if command not in lines:  # these import torch
            lines[command] = importlib.import_module(f"unveil.cli.{command}").COMMAND_LINE
        try:
            lines[command].check(words, partial)
        except UserError as error:
            raise UserError(f"--config {file}: {place}: {error}") from error

    for place, command, flags in _declared(grid):
        check(place, command, words_of(command, flags)[1:], partial=True)
    seen = set()
    for cell in grid.cells():
        for step in steps_of(grid, cell, output_dir):
            command = step.command[0]
            place = {"train": f"methods.{cell.method}", "evaluate": f"tasks.{step.column}"}.get(command, "compare")
            what = (place, None if command == "evaluate" else cell.start)
            if what not in seen:
                seen.add(what)
                check(place, command, step.command[1:], partial=False)


def _declared(grid: Grid) -> Iterator[tuple[str, str, Flags]]:
    """Each place with flags of its own, and the command that they go to; those of all cells before those of some."""
    learning = {name: flags for name, flags in grid.methods.items() if flags is not None}
    if learning:
        yield "train", "train", grid.train
        yield from ((f"methods.{name}", "train", flags) for name, flags in learning.items())
        yield from ((f"starts.{name}", "train", flags) for name, flags in grid.starts.items())
    yield "evaluate", "evaluate", grid.evaluate
    yield from ((f"tasks.{name}", "evaluate", flags) for name, flags in grid.tasks.items())
    if grid.compare is not None and learning:
        yield "compare", "compare", grid.compare
        for name, flags in grid.starts.items():
            used = {key: value for key, value in flags.items() if key != "model_revision"}
            yield f"starts.{name}", "compare", used
