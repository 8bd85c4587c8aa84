"""`unveil inspect`: is it sound? `inspect data FILE` lists every fault of a file at once, with a remedy for each."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from unveil.cli.options import LABEL_MAP, RowArguments
from unveil.cli.parser import parse
from unveil.errors import UserError, name_rows
from unveil.inspection import Inspection, inspect_rows
from unveil.terminal import PlainConsole, one_line, say

DESCRIPTION = """Read a data set as training would and list all of its faults in one table: kind, count, first rows,
remedy. Tells the format, counts labels, repeated and contradictory rows. Exit code 0 if every row can be used, 2 if
not; `--on_bad_rows drop` leaves such rows out of a run. Usage: unveil inspect data FILE [flags]."""


@dataclass
class DataToInspect(RowArguments):
    """Which data (or its name behind `data`)"""

    label_map: list[str] | None = field(default=None, metadata={"help": LABEL_MAP})
    dataset_split: str | None = field(
        default=None,
        metadata={"help": "Split of the data, or a part of it: train[10:20]; unset: train, or all of a file."},
    )
    json: bool = field(default=False, metadata={"help": "Print one JSON object, with all rows of every fault."})


def main(argv: Sequence[str]) -> int:
    """Hand over to what inspects the kind that is named first."""
    if not argv or {"-h", "--help", "--help_all"} & set(argv):
        return inspect_data(["--help"] if argv else [])
    kind, *rest = argv
    if kind in KINDS:
        return KINDS[kind](rest)
    raise UserError(f"{kind}: what is to be inspected? `unveil inspect {' | '.join(KINDS)} FILE`")


def inspect_data(argv: Sequence[str]) -> int:
    """Parse, read, print; 0 if every row can be used, else 2."""
    words = list(argv)
    if words and not words[0].startswith("-"):
        words = ["--dataset_name", *words]
    (data,) = parse(
        (DataToInspect,), words, "unveil inspect data", DESCRIPTION, required={"dataset_name": "a hub name or a file"}
    )
    source = str(data.dataset_name)
    rows = data.read(source, data.dataset_split, "train", on_bad_rows="drop")
    found = inspect_rows(rows, source, column_map=data.columns(), label_map=data.labels())
    if data.json:
        print(json.dumps(found.summary()))
    else:
        print_page(found)
    return 0 if found.sound else 2


KINDS: dict[str, Callable[[Sequence[str]], int]] = {"data": inspect_data}


def print_page(found: Inspection) -> None:
    """The table of faults between a line about the format and one that sums up."""
    counts = "".join(f", {number} thumbs {label}" for label, number in sorted(found.labels.items(), reverse=True))
    say(f"{found.source}: {found.rows} rows of {found.form}{counts}")
    if found.faults:
        table = Table("fault", "count", "rows, from 0", "remedy")
        for one in sorted(found.faults, key=lambda fault: -len(fault.rows)):
            cells = (one.describe(), str(len(one.rows)), name_rows(one.rows, 3), one.remedy)
            table.add_row(*map(one_line, cells))
        PlainConsole(width=118, highlight=False).print(table)
    for note in found.notes:
        say(f"note: {note}")
    bad = found.rows - found.usable
    if bad:
        say(f"{found.usable} of {found.rows} rows can be used; --on_bad_rows drop leaves the other {bad} out")
    else:
        say(f"all {found.rows} rows can be used")
