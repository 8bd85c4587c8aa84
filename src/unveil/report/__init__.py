"""Figures and self-contained pages from plain numbers and texts; knows nothing of what they are about."""

from unveil.report.dots import Dot, ratio_dots
from unveil.report.figures import Interval, before_after, curves, histograms, interval_bars
from unveil.report.page import Bullets, Gallery, Pairs, Paragraph, Picture, Samples, Section, SideBySide, Table, page

__all__ = [
    "Bullets",
    "Dot",
    "Gallery",
    "Interval",
    "Pairs",
    "Paragraph",
    "Picture",
    "Samples",
    "Section",
    "SideBySide",
    "Table",
    "before_after",
    "curves",
    "histograms",
    "interval_bars",
    "page",
    "ratio_dots",
]
