"""Ratios as dots with intervals on a logarithmic axis: rows of things compared, one panel per quantity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from unveil.report.drawing import INK, MUTED, PALETTE, drawing


@dataclass(frozen=True)
class Dot:
    """A ratio with its interval in row `row`, drawn in the colour of `series`; `hollow` marks it as different."""

    row: str
    series: str
    value: float
    low: float
    high: float
    hollow: bool = False


def ratio_dots(panels: Mapping[str, Sequence[Dot]], *, even_name: str, legend_title: str = "") -> bytes:
    """One panel per quantity (its key is the axis); rows in the order in which they first appear, the first on top."""
    dots = [dot for panel in panels.values() for dot in panel]
    rows = list(dict.fromkeys(dot.row for dot in dots))
    series = list(dict.fromkeys(dot.series for dot in dots))
    step = 0.7 / max(len(series), 2)
    with drawing(3.2 + 3.1 * len(panels), 1.3 + 0.36 * len(rows), len(panels)) as picture:
        for axes, (title, panel) in zip(picture.panels, panels.items()):
            for dot in panel:
                which = series.index(dot.series)
                colour = PALETTE[which % len(PALETTE)]
                place = len(rows) - 1 - rows.index(dot.row) + step * ((len(series) - 1) / 2 - which)
                low, high = max(0.0, dot.value - dot.low), max(0.0, dot.high - dot.value)
                axes.errorbar(
                    dot.value, place, xerr=[[low], [high]], fmt="o", color=colour, markersize=4.6,
                    markerfacecolor="white" if dot.hollow else colour, elinewidth=1.2, capsize=0,
                )  # fmt: skip
            axes.set_xscale("log")
            axes.axvline(1, color=MUTED, linewidth=1)
            low, high = axes.get_xlim()
            axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 3, 5, 7) if high < 12 * low else (1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(title)
            for place in range(len(rows) - 1):
                axes.axhline(place + 0.5, color="#f0f1f3", linewidth=0.8)
            axes.grid(axis="y", visible=False)
            axes.spines["left"].set_visible(False)
            axes.annotate(
                even_name, (1, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center",
                color=MUTED, fontsize=8.5,
            )  # fmt: skip
        picture.axes.set_yticks(range(len(rows)), rows[::-1], color=INK)
        picture.axes.set_ylim(-0.6, len(rows) - 0.4)
        for which, name in enumerate(series):
            picture.axes.plot([], [], "o", color=PALETTE[which % len(PALETTE)], markersize=4.6, label=name)
        if any(dot.hollow for dot in dots):
            picture.axes.plot([], [], "o", color=INK, markerfacecolor="white", markersize=4.6, label="biased")
        picture.legend(len(series) + 1, title=legend_title or None, borderaxespad=0.2, handlelength=1.0)
        return picture.png()
