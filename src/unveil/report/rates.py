"""Win rates with intervals: a dot each, in rows of comparisons and colours of judges, beside the even line."""

from collections.abc import Sequence
from dataclasses import dataclass

from unveil.report.drawing import INK, MANY, MUTED, broken, drawing


@dataclass(frozen=True)
class Rate:
    """A rate with its interval in row `row`, drawn in the colour of `series`; `hollow` for what should be even."""

    row: str
    series: str
    value: float
    low: float
    high: float
    hollow: bool = False


def rate_dots(
    rates: Sequence[Rate], *, axis: str = "win rate (wins + half ties)", even: float = 0.5, even_name: str = "even"
) -> bytes:
    """Rows in the order in which they first appear, the first on top; series likewise."""
    rows = list(dict.fromkeys(rate.row for rate in rates))
    series = list(dict.fromkeys(rate.series for rate in rates))
    step = 0.72 / max(len(series), 2)
    with drawing(7.2, 1.25 + len(rows) * (0.3 + 0.2 * max(len(series), 2))) as picture:
        axes = picture.axes
        axes.axvline(even, color=MUTED, linewidth=1)
        for rate in rates:
            which = series.index(rate.series)
            colour = MANY[which % len(MANY)]
            place = len(rows) - 1 - rows.index(rate.row) + step * ((len(series) - 1) / 2 - which)
            axes.errorbar(
                rate.value, place, xerr=[[max(0.0, rate.value - rate.low)], [max(0.0, rate.high - rate.value)]],
                fmt="o", color=colour, markersize=5.5, markerfacecolor="white" if rate.hollow else colour,
                elinewidth=1.5, capsize=3,
            )  # fmt: skip
            axes.annotate(
                f"{rate.value:.3f}", (max(rate.high, rate.value), place), (6, 0), textcoords="offset points",
                va="center", fontsize=8.5, color=colour,
            )  # fmt: skip
        for place in range(len(rows) - 1):
            axes.axhline(place + 0.5, color="#f0f1f3", linewidth=0.8, zorder=0.5)
        ends = [even, *(rate.low for rate in rates), *(rate.high for rate in rates)]
        reach = max(max(ends) - even, even - min(ends), 0.05)
        axes.set_xlim(even - 1.08 * reach, even + 1.3 * reach)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_yticks(range(len(rows)), [broken(row, 28) for row in reversed(rows)], color=INK)
        axes.set_xlabel(axis)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.annotate(
            even_name, (even, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center",
            color=MUTED, fontsize=8.5,
        )  # fmt: skip
        for which, name in enumerate(series):
            axes.plot([], [], "o", color=MANY[which % len(MANY)], markersize=5.5, label=name)
        picture.legend(4, handlelength=1.0)
        return picture.png()
