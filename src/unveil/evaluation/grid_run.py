"""Running a matrix, step by step: what is done is kept, what fails costs one cell and stays visible.

Every step runs in a process of its own. Its record, `STEP.json` in the cell's folder, is written when it ends, with its
command, exit code, time and, if it failed, its last words; `STEP.log` has all it printed.
"""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unveil.children import run_child
from unveil.errors import UserError
from unveil.evaluation.grid import Cell, Grid
from unveil.evaluation.grid_steps import Step, declaration, steps_of, write_data
from unveil.files import read_json, write_json
from unveil.secrets import without_secrets

Runner = Callable[[Sequence[str], Path], int]
"""Runs the words of a command with its output going to a log file; returns the exit code."""
DONE, FAILED, SKIPPED = "done", "failed", "skipped"
_LAST_WORDS = 300


def in_process_of_its_own(words: Sequence[str], log: Path) -> int:
    """`python -m unveil.cli.main WORDS`; a crash, of whatever kind, is an exit code. It ends when this process does."""
    with open(log, "wb") as file:
        command = [sys.executable, "-m", "unveil.cli.main", *words]
        return run_child(command, file)


def run_grid(
    grid: Grid,
    output_dir: Path,
    runner: Runner = in_process_of_its_own,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[Cell, dict[str, dict[str, Any]]]:
    """The record of every step of every cell, run where it has to be.

    A failed step is tried again by the next call; the steps that build on it are skipped.
    """
    cells = grid.cells()
    records: dict[Cell, dict[str, dict[str, Any]]] = {}
    for number, cell in enumerate(cells, start=1):
        found = records[cell] = run_cell(grid, cell, output_dir, runner)
        fresh = [f"{name} {_told(record)}" for name, record in found.items() if record["fresh"]]
        tell(f"[{number}/{len(cells)}] {cell}: {', '.join(fresh) or 'done before'}")
    return records


def run_cell(grid: Grid, cell: Cell, output_dir: Path, runner: Runner) -> dict[str, dict[str, Any]]:
    """The records of a cell's steps by name, `fresh` where they were run (or skipped) just now."""
    records: dict[str, dict[str, Any]] = {}
    before: str | None = None  # declaration of the training
    broken = False
    for step in steps_of(grid, cell, output_dir):
        digest = declaration(step, output_dir, before)
        file = output_dir / cell.folder / f"{step.name}.json"
        known = _read(file)
        if broken:
            records[step.name] = {"status": SKIPPED, "column": step.column, "fresh": True}
            continue
        if known and known["declaration"] == digest and known["status"] == DONE and step.output.is_dir():
            records[step.name] = {**known, "fresh": False}
        else:
            same = known is None or known["declaration"] == digest
            keep = same and step.name.startswith("task-")
            records[step.name] = {**_run(step, digest, file, runner, keep), "fresh": True}
        if step.column is None:
            before = digest
            broken = records[step.name]["status"] != DONE
    return records


def _run(step: Step, digest: str, file: Path, runner: Runner, keep: bool) -> dict[str, Any]:
    """Run a step from the start; an evaluation that was cut off goes on from the requests it has (`keep`)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    if not keep:
        shutil.rmtree(step.output, ignore_errors=True)
    (step.output / "results.json").unlink(missing_ok=True)
    log = file.with_suffix(".log")
    began = time.monotonic()
    try:
        write_data(step)
        code = runner(step.command, log)
        error = _last_words(log) if code else None
    except (UserError, OSError) as problem:
        code, error = 2, str(problem)
    record = {
        "status": DONE if code == 0 else FAILED,
        "column": step.column,
        "declaration": digest,
        "command": without_secrets(["unveil", *step.command]),
        "exit_code": code,
        "error": error,
        "seconds": round(time.monotonic() - began, 1),
    }
    write_json(file, record)
    return record


def _read(file: Path) -> dict[str, Any] | None:
    try:
        record = read_json(file)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and {"declaration", "status"} <= set(record) else None


def _last_words(log: Path) -> str:
    """The last line that a command printed: of a refusal, the message; of a crash, the error."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][-_LAST_WORDS:] if lines else "it printed nothing"


def _told(record: dict[str, Any]) -> str:
    if record["status"] == SKIPPED:
        return "skipped"
    return f"{record['status']} in {record['seconds']:g} s" + (f" ({record['error']})" if record["error"] else "")
