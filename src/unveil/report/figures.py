"""The figures of a report. Each takes plain numbers and returns a PNG file as bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

from unveil.report.drawing import BLUE, GREY, INK, MUTED, PALETTE, drawing


@dataclass(frozen=True)
class Interval:
    """A value with its interval; `main` picks it out from the ones it is compared with."""

    name: str
    value: float
    low: float
    high: float
    main: bool = False


def interval_bars(rows: Sequence[Interval], *, even: float, even_name: str, axis: str) -> bytes:
    """Bars from the value that means "no difference" to each value, with intervals; the first row is on top."""
    with drawing() as picture:
        axes = picture.axes
        for place, row in enumerate(reversed(rows)):
            colour = BLUE if row.main else GREY
            axes.barh(place, row.value - even, left=even, height=0.46, color=colour)
            axes.errorbar(
                row.value,
                place,
                xerr=[[max(0.0, row.value - row.low)], [max(0.0, row.high - row.value)]],
                color=INK,
                capsize=3.5,
                linewidth=1.3,
            )
            axes.annotate(
                f"{row.value:.3f}",
                (row.high, place),
                (7, 0),
                textcoords="offset points",
                va="center",
                fontweight="bold",
            )
        axes.axvline(even, color=MUTED, linewidth=1)
        axes.annotate(
            even_name, (even, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center",
            color=MUTED, fontsize=8.5,
        )  # fmt: skip
        axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)], color=INK)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        ends = [even, *(row.low for row in rows), *(row.high for row in rows)]
        reach = max(max(ends) - even, even - min(ends), 0.02)
        axes.set_xlim(even - 1.15 * reach, even + 1.5 * reach)
        axes.set_xlabel(axis)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        return picture.png()


def curves(
    steps: Sequence[float], series: Mapping[str, Sequence[float]], *, axis: str, zero: bool = True, smooth: int = 9
) -> bytes:
    """Lines over optimizer steps: every value faintly, a centred moving average of `smooth` values on top."""
    with drawing() as picture:
        axes = picture.axes
        if zero:
            axes.axhline(0, color=MUTED, linewidth=1)
        for (name, values), colour in zip(series.items(), PALETTE):
            axes.plot(steps, values, color=colour, alpha=0.28, linewidth=1)
            axes.plot(steps, moving_average(values, smooth), color=colour, linewidth=2, label=name)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(axis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.margins(x=0.01)
        _legend(axes, len(series))
        return picture.png()


def histograms(
    groups: Mapping[str, ArrayLike], *, axis: str, bins: ArrayLike | None = None, zero: bool = False, quiet: str = ""
) -> bytes:
    """Overlaid distributions as shares, a dashed line at each mean; the group `quiet` is grey.

    Without `bins` they cover all but the outer half percents.
    """
    values = {name: np.asarray(group, dtype=float) for name, group in groups.items()}
    if bins is None:
        together = np.concatenate(list(values.values()))
        low, high = np.quantile(together, [0.005, 0.995])
        bins = np.linspace(low, high + 1e-9, 41)
    edges = np.asarray(bins)
    with drawing() as picture:
        axes = picture.axes
        for (name, group), usual in zip(values.items(), PALETTE):
            colour = GREY if name == quiet else usual
            weights = np.full(len(group), 1 / len(group))
            axes.hist(group, bins=list(edges), weights=weights, color=colour, alpha=0.22)
            axes.hist(group, bins=list(edges), weights=weights, color=colour, histtype="step", linewidth=1.6)
            axes.axvline(float(group.mean()), color=colour, linestyle=(0, (4, 2)), linewidth=1.4)
            axes.plot([], [], color=colour, linewidth=2, label=f"{name}, mean {group.mean():.2f}".replace("-", "−"))
        if zero:
            axes.axvline(0, color=MUTED, linewidth=1)
        axes.set_xlabel(axis)
        axes.set_ylabel("share")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.margins(x=0.01)
        _legend(axes, len(values))
        return picture.png()


def before_after(rows: Mapping[str, tuple[float, float]], *, names: tuple[str, str], axis: str) -> bytes:
    """Two bars per set from zero, with the relative change beside them."""
    with drawing() as picture:
        axes = picture.axes
        places = np.arange(len(rows))[::-1]
        for which, (name, colour) in enumerate(zip(names, (GREY, BLUE))):
            values = [pair[which] for pair in rows.values()]
            axes.barh(places + 0.19 - 0.38 * which, values, height=0.34, color=colour, label=name)
        for place, (before, after) in zip(places, rows.values()):
            axes.annotate(
                f"{100 * (after - before) / before:+.2f} %".replace("-", "−"), (max(before, after), place), (7, 0),
                textcoords="offset points", va="center", fontweight="bold",
            )  # fmt: skip
        axes.set_yticks(places, list(rows), color=INK)
        axes.set_xlim(0, 1.22 * max(max(pair) for pair in rows.values()))
        axes.set_xlabel(axis)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        _legend(axes, 2)
        return picture.png()


def moving_average(values: Sequence[float], width: int) -> list[float]:
    """Centred average over `width` values; over fewer at both ends, and at the start the value itself."""
    halves = [min(width // 2, i) for i in range(len(values))]
    return [float(np.mean(values[i - half : i + half + 1])) for i, half in enumerate(halves)]


def _legend(axes: Axes, columns: int) -> None:
    """A legend above the axes, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handlelength=1.4)
