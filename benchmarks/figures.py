"""Figures of the experiments, in the look of the package's reports; PNG bytes from plain numbers."""

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from benchmarks.intervals import Estimate
from unveil.report.drawing import MANY, MUTED, drawing

# Markers tell the names apart on paper.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def lines_with_bands(
    places: Sequence[float], series: Mapping[str, Sequence[Estimate]], *, x_axis: str, y_axis: str, even: float
) -> bytes:
    """A line per name with its interval as a band; `even` is the value of pure chance. `places` are shares."""
    with drawing() as picture:
        axes = picture.axes
        axes.axhline(even, color=MUTED, linewidth=1)
        for (name, estimates), colour, marker in zip(series.items(), cycle(MANY), cycle(MARKERS)):
            values = [estimate.value for estimate in estimates]
            axes.fill_between(places, [e.low for e in estimates], [e.high for e in estimates], color=colour, alpha=0.1)
            axes.plot(places, values, color=colour, marker=marker, markersize=4.5, linewidth=1.8, label=name)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xticks(list(places))
        axes.set_xlabel(x_axis)
        axes.set_ylabel(y_axis)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(series), borderaxespad=0.2, handlelength=1.4)
        return picture.png()


def crosses(
    points: Mapping[str, tuple[Estimate, Estimate]], *, x_axis: str, y_axis: str, x_base: float, y_even: float
) -> bytes:
    """A point per name with an interval in both directions; lines at the base's x and at an even y."""
    with drawing() as picture:
        axes = picture.axes
        axes.axvline(x_base, color=MUTED, linewidth=1)
        axes.axhline(y_even, color=MUTED, linewidth=1)
        axes.annotate(
            "base", (x_base, 0), (-3, 4), xycoords=("data", "axes fraction"), textcoords="offset points", ha="right",
            color=MUTED, fontsize=8.5,
        )  # fmt: skip
        for (name, (x, y)), colour, marker in zip(points.items(), cycle(MANY), cycle(MARKERS)):
            axes.errorbar(
                x.value, y.value, xerr=[[x.value - x.low], [x.high - x.value]],
                yerr=[[y.value - y.low], [y.high - y.value]], color=colour, marker=marker, capsize=3, linewidth=1.4,
                label=name,
            )  # fmt: skip
        axes.margins(0.12)
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(points), 4), borderaxespad=0.2, handlelength=1.4
        )
        axes.set_xlabel(x_axis)
        axes.set_ylabel(y_axis)
        return picture.png()


def families(
    points: Mapping[str, Sequence[tuple[float, Estimate]]], *, x_axis: str, y_axis: str, y_even: float
) -> bytes:
    """Points of several families with vertical intervals, on a logarithmic horizontal axis of ratios."""
    with drawing() as picture:
        axes = picture.axes
        axes.axhline(y_even, color=MUTED, linewidth=1)
        for (name, own), colour, marker in zip(points.items(), cycle(MANY), cycle(MARKERS)):
            places, estimates = zip(*own)
            values = [e.value for e in estimates]
            reach = [[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]]
            axes.errorbar(
                places, values, yerr=reach, color=colour, marker=marker, linestyle="none", capsize=3, linewidth=1.2,
                label=name,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(x_axis)
        axes.set_ylabel(y_axis)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(points), borderaxespad=0.2, handlelength=1.4)
        return picture.png()
