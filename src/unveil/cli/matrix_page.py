"""The files of a matrix: Markdown, JSON, a heat map, and a page that shows them with every failure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unveil.evaluation.grid import Cell, Grid
from unveil.evaluation.grid_run import FAILED, SKIPPED
from unveil.evaluation.grid_table import Entry, Row, markdown, tidy
from unveil.files import write_bytes, write_json, write_text
from unveil.report import Gallery, Paragraph, Picture, Section, Table, page
from unveil.report.drawing import INK, MUTED, broken, drawing

_NOTE = (
    "Mean over seeds with its 95 % interval (Student). A value of one seed has no interval; its standard error is the "
    "one over documents. Colours run from the worst to the best value of each column."
)


def write_matrix(
    grid: Grid,
    records: Mapping[Cell, Mapping[str, Mapping[str, Any]]],
    table: Mapping[Row, Mapping[str, Entry]],
    output_dir: Path,
) -> None:
    """matrix.md, matrix.json, matrix.png and matrix.html."""
    failures = [
        {"cell": str(cell), "step": name, **{key: record.get(key) for key in ("status", "exit_code", "error")}}
        for cell, steps in records.items()
        for name, record in steps.items()
        if record["status"] in (FAILED, SKIPPED)
    ]
    picture = heat_map(table, grid.columns)
    text = markdown(table, grid.columns)
    if failures:
        text += "\nSteps without a result:\n\n" + "".join(f"- {_sentence(failure)}\n" for failure in failures)
    write_text(output_dir / "matrix.md", text)
    write_json(output_dir / "matrix.json", {"table": tidy(table), "failures": failures})
    write_bytes(output_dir / "matrix.png", picture)
    write_text(output_dir / "matrix.html", _html(table, grid.columns, failures, picture))


def heat_map(table: Mapping[Row, Mapping[str, Entry]], columns: list[str]) -> bytes:
    """Means by colour, per column from its worst to its best; what failed or is missing is white and says so."""
    rows = list(table)
    means = np.array([[np.nan if (m := table[row][c].mean) is None else m for c in columns] for row in rows])
    better = [next((b for row in rows if (b := table[row][c].higher_is_better) is not None), True) for c in columns]
    shades = np.full_like(means, np.nan)
    for place, high in enumerate(better):
        known = means[:, place][~np.isnan(means[:, place])]
        spread = np.ptp(known) if len(known) else 0.0
        scaled = (
            (means[:, place] - known.min()) / spread if spread else np.where(np.isnan(means[:, place]), np.nan, 0.5)
        )
        shades[:, place] = scaled if high else 1 - scaled
    titles = [broken(column, 20) for column in columns]
    names = [broken(f"{method} from {start}, {size}", 32) for start, method, size in rows]
    # Inches: a letter of these labels takes 0.085, a line of them 0.17, so long names leave the cells their room.
    letters = max((len(line) for name in names for line in name.split("\n")), default=0)
    lines = max(title.count("\n") for title in titles) if titles else 0
    with drawing(0.4 + 0.085 * letters + 1.7 * len(columns), 0.9 + 0.42 * len(rows) + 0.17 * lines) as picture:
        axes = picture.axes
        axes.imshow(np.ma.masked_invalid(shades), cmap="Blues", vmin=-0.25, vmax=2.2, aspect="auto")
        for y, row in enumerate(rows):
            for x, column in enumerate(columns):
                entry = table[row][column]
                span, seeds = entry.interval(), len(entry.values)
                half = "" if span is None else f" ± {(span[1] - span[0]) / 2:.2g}"
                text = entry.describe() if entry.mean is None else f"{entry.mean:.3f}{half} (n={seeds})"
                axes.annotate(text, (x, y), ha="center", va="center", fontsize=8, color=INK if entry.values else MUTED)
        for x in range(1, len(columns)):
            axes.axvline(x - 0.5, color="white", linewidth=1.2)
        for y in range(1, len(rows)):
            axes.axhline(y - 0.5, color="white", linewidth=1.2)
        axes.set_xticks(range(len(columns)), titles, color=INK)
        axes.set_yticks(range(len(rows)), names, color=INK)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return picture.png()


def _html(
    table: Mapping[Row, Mapping[str, Entry]], columns: list[str], failures: list[dict[str, Any]], picture: bytes
) -> str:
    rows = [[*row, *(entries[column].describe() for column in columns)] for row, entries in table.items()]
    sections = [
        Section("Table", [Paragraph(_NOTE), Table(["start", "method", "rows", *columns], rows)]),
        Section("Heat map", [Gallery([Picture(picture, "Means over seeds", _NOTE)])]),
    ]
    if failures:
        told = [
            [failure["cell"], failure["step"], failure["status"], str(failure["error"] or "")] for failure in failures
        ]
        sections.append(Section("Steps without a result", [Table(["cell", "step", "status", "last words"], told)]))
    return page("Evaluation matrix", f"{len(rows)} rows, {len(columns)} columns", sections, "made by unveil matrix")


def _sentence(failure: Mapping[str, Any]) -> str:
    said = f": {failure['error']}" if failure["error"] else ""
    return f"{failure['cell']}, {failure['step']}: {failure['status']}{said}"
