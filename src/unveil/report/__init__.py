"""Figures and self-contained pages from plain numbers and texts; knows nothing of what they are about."""

from unveil.report.dots import Dot, ratio_dots
from unveil.report.figures import Interval, before_after, curves, histograms, interval_bars
from unveil.report.lines import Line, run_lines
from unveil.report.page import (
    Bullets,
    Gallery,
    Opinion,
    Pairs,
    Paragraph,
    Picture,
    Reading,
    Readings,
    Samples,
    Section,
    SideBySide,
    Table,
    page,
)
from unveil.report.rates import Rate, rate_dots

__all__ = [
    "Bullets",
    "Dot",
    "Gallery",
    "Interval",
    "Line",
    "Opinion",
    "Pairs",
    "Paragraph",
    "Picture",
    "Rate",
    "Reading",
    "Readings",
    "Samples",
    "Section",
    "SideBySide",
    "Table",
    "before_after",
    "curves",
    "histograms",
    "interval_bars",
    "page",
    "rate_dots",
    "ratio_dots",
    "run_lines",
]
