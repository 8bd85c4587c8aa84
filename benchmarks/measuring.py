"""How the benchmarks measure time: process CPU time, variants interleaved, medians and ranges, ratios per repeat.

One process, one thread by default. Process CPU time counts neither other people's work nor waiting; interleaving
(A B C A B C ...) lets slow stretches of a shared machine fall on all variants alike, so a ratio is taken inside each
repeat and its median and range are shown.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Spread(NamedTuple):
    """Median, smallest and largest of some repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 2) -> str:
        """`7.31 (7.02-7.55)`."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def cpu_seconds(work: Callable[[], object]) -> float:
    """Process CPU time of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def interleaved(variants: dict[str, Callable[[], object]], repeats: int, title: str = "") -> dict[str, list[float]]:
    """CPU seconds of every variant in every repeat, all variants once per repeat, after one untimed warm-up of the
    last (cheapest) one. Progress goes to stderr."""
    list(variants.values())[-1]()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats):
        for name, work in variants.items():
            seconds[name].append(cpu_seconds(work))
            progress(f"{title} repeat {repeat + 1}/{repeats}, {name}: {seconds[name][-1]:.2f} s")
    return seconds


def ratios(slow: Sequence[float], fast: Sequence[float]) -> Spread:
    """How many times faster, repeat by repeat."""
    return Spread.of([a / b for a, b in zip(slow, fast, strict=True)])


def progress(text: str) -> None:
    """One line on stderr."""
    print(text.strip(), file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a markdown table."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Flags that all of these benchmarks share."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=(doc or "").split("\n")[0])
    made.add_argument("--quick", action="store_true", help="tiny model, one repeat: checks that it runs, no figures")
    made.add_argument("--repeats", type=int, help="interleaved repeats")
    made.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    return made
