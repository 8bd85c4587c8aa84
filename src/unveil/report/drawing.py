"""One look for all figures: quiet axes, colours that differ for colour-blind eyes too (Okabe and Ito), PNG bytes."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a929c"
INK, MUTED, GRID = "#1f2933", "#5b6570", "#e6e8eb"
PALETTE = (BLUE, ORANGE, GREY)
# For more things than three: the other colours of Okabe and Ito.
MANY = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b6570", "#a8761b")

_WIDTH, _HEIGHT, _DPI = 5.4, 3.3, 170
_PER_INCH = 11  # letters of a legend that surely fit in an inch
_ONE_ROW = 0.3  # inches that every height has for a legend
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.parse_math": False,  # names may hold a $
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#c4c9cf",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


class Drawing:
    """A figure with one pair of axes, or `panels` of them side by side on one vertical axis; inches."""

    def __init__(self, width: float = _WIDTH, height: float = _HEIGHT, panels: int = 1) -> None:
        self.figure = Figure(figsize=(width, height), layout="constrained")
        self.panels: list[Axes] = list(self.figure.subplots(1, panels, sharey=True, squeeze=False)[0])
        self.axes = self.panels[0]

    def legend(self, columns: int, handles: Sequence[Artist] | None = None, **look: Any) -> None:
        """A legend above all else, in as many columns as the width holds; the figure grows by its rows.

        columns: the most that it may have. handles: what it names; None: whatever has a label in the first pair of
        axes.
        """
        if handles is None:
            handles = self.axes.get_legend_handles_labels()[0]
        if not handles:
            return
        width, height = self.figure.get_size_inches()
        names = [broken(str(handle.get_label()), int(_PER_INCH * width)) for handle in handles]
        for ncols in range(min(columns, len(names)), 0, -1):
            legend = self.figure.legend(handles, names, loc="outside upper left", ncols=ncols, **look)
            extent = legend.get_window_extent()
            if extent.width <= self.figure.bbox.width or ncols == 1:
                break
            legend.remove()
        self.figure.set_size_inches(width, height + max(0.0, extent.height / self.figure.dpi - _ONE_ROW))

    def png(self) -> bytes:
        """The figure as a PNG file."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        return buffer.getvalue()


@contextmanager
def drawing(width: float = _WIDTH, height: float = _HEIGHT, panels: int = 1) -> Iterator[Drawing]:
    """A drawing in the common style; take its `png()` before the block ends."""
    with mpl.rc_context(_STYLE):
        yield Drawing(width, height, panels)


def broken(name: str, width: int) -> str:
    """`name` on lines of at most `width` letters, broken after a space or a mark such as _ or / where there is one."""
    lines = [""]
    for piece in re.findall(rf"[^\s_/:,.-]{{0,{width - 1}}}[\s_/:,.-]|[^\s_/:,.-]{{1,{width}}}", name):
        if len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.strip() for line in lines if line.strip())
