"""`unveil matrix`: a declared grid of trainings and evaluations, run cell by cell, in one table."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals

from unveil.children import StoppedBySignalError
from unveil.cli.parser import parse
from unveil.evaluation.grid import read_grid
from unveil.evaluation.grid_steps import shown, steps_of
from unveil.files import require_place_for_folder
from unveil.locks import claim_folder
from unveil.terminal import say

DESCRIPTION = """Run methods x starts x data sizes x seeds x tasks as declared in a YAML file, each step in a process of
its own. What is done is not done again; what was declared anew is; failures cost one cell and are shown."""


@dataclass
class MatrixArguments:
    """Which matrix, where its cells go"""

    matrix: str | None = field(
        default=None, metadata={"help": "YAML file with starts, methods, sizes, seeds and tasks (also as --config)."}
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder of the cells and of matrix.md, .json, .html and .png."}
    )
    dry_run: bool = field(default=False, metadata={"help": "Check the flags, print the commands and run nothing."})


def main(argv: Sequence[str]) -> int:
    """Parse, run what is left to run, write the table; 1 if a cell failed."""
    # Elsewhere --config is a file of flags; here it is the matrix itself.
    words = ["--matrix" + word.removeprefix("--config") if word.split("=")[0] == "--config" else word for word in argv]
    required = {"matrix": "a YAML file (also as --config)", "output_dir": "a folder for the cells"}
    (args,) = parse((MatrixArguments,), words, "unveil matrix", DESCRIPTION, required=required)
    grid = read_grid(args.matrix)
    output_dir = Path(args.output_dir)
    require_place_for_folder(output_dir)
    from unveil.cli.matrix_check import check_flags

    check_flags(grid, output_dir, args.matrix)
    if args.dry_run:
        for cell in grid.cells():
            say(f"# {cell}", *shown(steps_of(grid, cell, output_dir)))
        return 0
    from unveil.cli.matrix_page import write_matrix
    from unveil.evaluation.grid_run import FAILED, run_grid
    from unveil.evaluation.grid_table import markdown, table_of

    claim_folder(output_dir)
    try:
        records = run_grid(grid, output_dir, tell=say)
    except StoppedBySignalError as stopped:
        say(f"unveil matrix: ended by {Signals(stopped.number).name}; the same command goes on", file=sys.stderr)
        return int(str(stopped.code))
    table = table_of(grid, records, output_dir)
    write_matrix(grid, records, table, output_dir)
    say(markdown(table, grid.columns).rstrip("\n"))
    failed = sum(record["status"] == FAILED for steps in records.values() for record in steps.values())
    say(f"{failed} steps failed; see the logs in {output_dir}" if failed else f"saved in {output_dir}")
    return 1 if failed else 0
