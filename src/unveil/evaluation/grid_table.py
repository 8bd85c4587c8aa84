"""From the cells of a matrix to one table: means over seeds with intervals, failures and gaps as such.

The interval is Student's, mean +- t_{n-1} sd / sqrt(n) over n seeds at 95 %: another seed, other rows, other draws. A
single seed has none, nor have equal values; lm-eval's standard error over documents stands beside a single value, which
is another thing.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from unveil.evaluation.grid import WIN_RATE, Cell, Grid
from unveil.evaluation.grid_run import DONE, FAILED
from unveil.files import read_json

Row = tuple[str, str, str]
_LEVEL = 0.95


@dataclass(frozen=True)
class Entry:
    """One place of the table: the metric's value for each seed that has one, and how many seeds have none.

    error: standard error over documents, of a single value. higher_is_better: None where it is not known.
    """

    values: tuple[float, ...]
    failed: int = 0
    missing: int = 0
    metric: str = ""
    error: float | None = None
    higher_is_better: bool | None = None

    @property
    def mean(self) -> float | None:
        """Mean over seeds."""
        return statistics.fmean(self.values) if self.values else None

    def interval(self) -> tuple[float, float] | None:
        """95 % interval over seeds; None for fewer than two, and for values all alike, which tell nothing of spread."""
        n = len(self.values)
        if n < 2 or len(set(self.values)) == 1:
            return None
        half = float(stdtrit(n - 1, 0.5 + _LEVEL / 2)) * statistics.stdev(self.values) / math.sqrt(n)
        centre = statistics.fmean(self.values)
        return centre - half, centre + half

    def describe(self) -> str:
        """For the table: the mean with its interval and the number of seeds, never a number without them."""
        gaps = [f"{count} {what}" for count, what in ((self.failed, "failed"), (self.missing, "missing")) if count]
        if not self.values:
            return "failed" if self.failed else "missing" if self.missing else "-"
        n, span = len(self.values), self.interval()
        if n > 1 and span is None:
            text = f"{self.mean:.3f} ({n} seeds, all alike)"
        elif span is None:
            error = "" if self.error is None else f" ± {self.error:.3f} over documents"
            text = f"{self.mean:.3f} (1 seed{error})"
        else:
            text = f"{self.mean:.3f} [{span[0]:.3f}, {span[1]:.3f}] ({n} seeds)"
        return ", ".join([text, *gaps])


def table_of(
    grid: Grid, records: Mapping[Cell, Mapping[str, Mapping[str, Any]]], output_dir: Path
) -> dict[Row, dict[str, Entry]]:
    """Rows (start, method, size) by columns (task or win rate)."""
    table: dict[Row, dict[str, list[Entry]]] = {}
    for cell in grid.cells():
        row = table.setdefault(cell.row, {column: [] for column in grid.columns})
        by_column = {record.get("column"): name for name, record in records.get(cell, {}).items()}
        trained = records.get(cell, {}).get("train", {"status": DONE})["status"]
        for column in grid.columns:
            if column == WIN_RATE and grid.methods[cell.method] is None:
                continue  # the start against itself
            name = by_column.get(column)
            status = records[cell][name]["status"] if name else None
            if status == DONE and name:
                row[column].append(_read(grid, output_dir / cell.folder / name, column))
            else:
                row[column].append(Entry((), failed=1) if FAILED in (status, trained) else Entry((), missing=1))
    return {row: {column: _joined(entries) for column, entries in columns.items()} for row, columns in table.items()}


def tidy(table: Mapping[Row, Mapping[str, Entry]]) -> list[dict[str, Any]]:
    """One record per row and column."""
    found = []
    for (start, method, size), columns in table.items():
        for column, entry in columns.items():
            span = entry.interval() or (None, None)
            found.append(
                {
                    "start": start, "method": method, "size": size, "task": column, "metric": entry.metric,
                    "mean": entry.mean, "low": span[0], "high": span[1], "seeds": len(entry.values),
                    "failed": entry.failed, "missing": entry.missing, "values": list(entry.values),
                }
            )  # fmt: skip
    return found


def markdown(table: Mapping[Row, Mapping[str, Entry]], columns: list[str]) -> str:
    """The table for people."""
    head = ["start", "method", "rows", *(_titled(table, column) for column in columns)]
    lines = [head, ["---"] * len(head)]
    lines += [[*row, *(entries[column].describe() for column in columns)] for row, entries in table.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _titled(table: Mapping[Row, Mapping[str, Entry]], column: str) -> str:
    metric = next((e[column].metric for e in table.values() if e[column].metric), "")
    return column if not metric or metric == column else f"{column} ({metric})"


def _read(grid: Grid, folder: Path, column: str) -> Entry:
    """The result of one step; `missing` where the file does not have it."""
    try:
        if column == WIN_RATE:
            found = read_json(folder / "compare.json")["results"]
            return Entry((float(found["adjusted_win_rate"]),), metric=WIN_RATE, higher_is_better=True)
        found = read_json(folder / "results.json")
        metrics = [*found["groups"].values(), *found["tasks"].values()][0]["metrics"]
        wanted = grid.metrics.get(column)
        chosen = next(m for m in metrics if wanted in (None, m["metric"]))
        return Entry(
            (float(chosen["value"]),),
            metric=chosen["metric"],
            error=chosen["standard_error"],
            higher_is_better=chosen["higher_is_better"],
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, StopIteration):
        return Entry((), missing=1)


def _joined(entries: list[Entry]) -> Entry:
    """The seeds of one place."""
    values = tuple(value for entry in entries for value in entry.values)
    known = [entry for entry in entries if entry.values]
    return Entry(
        values,
        sum(entry.failed for entry in entries),
        sum(entry.missing for entry in entries),
        known[0].metric if known else "",
        known[0].error if len(known) == 1 else None,
        known[0].higher_is_better if known else None,
    )
