"""What a cell of a matrix runs: one command of the package to train, one per task, one to compare.

A step is named by its declaration: its words, the content of the files they name, and the step it builds on. A step
that was done under the same declaration is not done again; under another one it is.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unveil import __version__
from unveil.draws.splitmix import hashes
from unveil.errors import UserError
from unveil.evaluation.grid import WIN_RATE, Cell, Flags, Grid
from unveil.files import write_text
from unveil.secrets import shown_command

_LARGE = 2**24


@dataclass(frozen=True)
class Step:
    """One command. `column`: the task (or the win rate) that it measures, None for training. `output`: its folder.

    rows: data to write first, (source, number of rows, seed, file)."""

    name: str
    column: str | None
    command: tuple[str, ...]
    output: Path
    rows: tuple[str, int, int, Path] | None = None


def steps_of(grid: Grid, cell: Cell, output_dir: Path) -> list[Step]:
    """The steps of a cell in order; the first of a method that learns is its training."""
    folder = output_dir / cell.folder
    start, method = grid.starts[cell.start], grid.methods[cell.method]
    steps = []
    use = {key: value for key, value in start.items() if key != "model_name_or_path"}
    model = str(start["model_name_or_path"])
    if method is not None:
        flags = {**grid.train, **method, **start}
        rows = None
        if cell.size is not None:
            source = flags.get("dataset_name")
            if not source:
                raise UserError("--config: sizes need train.dataset_name, a local .jsonl file; name it")
            rows = (str(source), cell.size, cell.seed, folder / "rows.jsonl")
            flags["dataset_name"] = str(rows[3])
        model = str(folder / "model")
        words = words_of("train", {**flags, "seed": cell.seed, "output_dir": model})
        steps.append(Step("train", None, words, folder / "model", rows))
        use = {key: value for key, value in use.items() if key != "model_revision"}
    for task, own in grid.tasks.items():
        output = folder / f"task-{task}"
        flags = {**grid.evaluate, **own, "seed": cell.seed, "output_dir": str(output)}
        words = words_of("evaluate", {"model_name_or_path": model, **flags})
        steps.append(Step(f"task-{task}", task, words, output))
    if grid.compare is not None and method is not None:
        output = folder / "compare"
        flags = {**grid.compare, **use, "seed": cell.seed, "output_dir": str(output)}
        against = {"model_name_or_path": model, "against": start["model_name_or_path"]}
        steps.append(Step("compare", WIN_RATE, words_of("compare", {**against, **flags}), output))
    return steps


def declaration(step: Step, output_dir: Path, before: str | None) -> str:
    """Digest of everything that the step's result depends on; the place of the output folder is no part of it."""
    root = str(output_dir)
    words = [word.replace(root, "OUTPUT") for word in step.command]
    files = {word: _digest_of(Path(word)) for word in step.command if root not in word and Path(word).exists()}
    rows = None
    if step.rows is not None:
        source, size, seed, _ = step.rows
        rows = [_digest_of(Path(source)) if Path(source).exists() else source, size, seed]
    text = json.dumps([__version__, words, sorted(files.items()), rows, before])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write_data(step: Step) -> None:
    """The rows that a training learns from: `size` of the source's, chosen by the seed; fewer rows are among more."""
    if step.rows is None:
        return
    source, size, seed, file = step.rows
    if Path(source).suffix != ".jsonl" or not Path(source).is_file():
        raise UserError(f"sizes: {source} is not a local .jsonl file; write the data as one, or leave sizes out")
    lines = [line for line in Path(source).read_text(encoding="utf-8").splitlines() if line.strip()]
    if size > len(lines):
        raise UserError(f"sizes: {size} rows are asked for, {source} has {len(lines)}; give a smaller size or all")
    order = np.argsort(hashes(seed, len(lines)), kind="stable")
    write_text(file, "".join(lines[place] + "\n" for place in sorted(order[:size])))


def words_of(command: str, flags: Flags) -> tuple[str, ...]:
    """Flags as words; None leaves a flag out."""
    words = [command]
    for name, value in flags.items():
        if value is None:
            continue
        if isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        else:
            words += [f"--{name}", json.dumps(value) if isinstance(value, dict | bool) else str(value)]
    return tuple(words)


def _digest_of(path: Path) -> Any:
    """Content of a small file, size and time of a large one, both for what a folder holds."""
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        return [[str(file.relative_to(path)), _digest_of(file)] for file in inside]
    found = path.stat()
    if found.st_size > _LARGE:
        return [found.st_size, found.st_mtime_ns]
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def shown(commands: Sequence[Step]) -> list[str]:
    """The steps as lines for a shell."""
    return [shown_command(["unveil", *step.command]) for step in commands]
