"""One look for all figures: quiet axes, colours that differ for colour-blind eyes too (Okabe and Ito), PNG bytes."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a929c"
INK, MUTED, GRID = "#1f2933", "#5b6570", "#e6e8eb"
PALETTE = (BLUE, ORANGE, GREY)
# For more things than three: the other colours of Okabe and Ito.
MANY = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b6570", "#a8761b")

_WIDTH, _HEIGHT, _DPI = 5.4, 3.3, 170
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
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
