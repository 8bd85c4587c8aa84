"""Curves of several runs in one picture: a colour for each run, a full and a dashed line for what it has two of."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from unveil.report.drawing import INK, MANY, MUTED, drawing
from unveil.report.figures import moving_average


@dataclass(frozen=True)
class Line:
    """One curve of run `run`; `kind` is what it shows (at most two kinds in a picture)."""

    run: str
    kind: str
    steps: Sequence[float]
    values: Sequence[float]


def run_lines(lines: Sequence[Line], *, axis: str, zero: bool = True, smooth: int = 5) -> bytes:
    """Moving averages over optimizer steps; lines of a single point become dots. Needs at least one line."""
    runs = list(dict.fromkeys(line.run for line in lines))
    kinds = list(dict.fromkeys(line.kind for line in lines))
    with drawing(5.4, 3.5) as picture:
        axes = picture.axes
        if zero:
            axes.axhline(0, color=MUTED, linewidth=1)
        for line in lines:
            dashed = kinds.index(line.kind) % 2 == 1
            axes.plot(
                line.steps, moving_average(line.values, smooth if len(line.values) > 2 * smooth else 1),
                color=MANY[runs.index(line.run) % len(MANY)], linewidth=1.8, linestyle=(0, (4, 2)) if dashed else "-",
                marker="o" if len(line.values) < 4 else None, markersize=4.5,
            )  # fmt: skip
        handles = [Line2D([], [], color=MANY[i % len(MANY)], linewidth=2, label=run) for i, run in enumerate(runs)]
        if len(kinds) > 1:
            handles += [
                Line2D([], [], color=INK, linewidth=1.6, linestyle=(0, (4, 2)) if i % 2 else "-", label=kind)
                for i, kind in enumerate(kinds)
            ]
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(axis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.margins(x=0.02)
        picture.legend(2, handles, handlelength=1.8)
        return picture.png()
