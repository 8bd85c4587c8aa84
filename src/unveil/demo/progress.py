"""Stages of a run: a progress bar each, and the seconds that each took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback

Advance = Callable[[int], None]


class Stages:
    """`with stages.stage("sample", total) as advance: advance(n)`; one bar per stage, or none at all.

    seconds: wall time of every finished stage, by name.
    """

    def __init__(self, show: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=Console(stderr=True), disable=not show)

    def __enter__(self) -> "Stages":
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """A bar of `total` steps; `advance(n)` moves it on."""
        started = time.perf_counter()
        task = self._bars.add_task(name, total=total)
        yield lambda count: self._bars.advance(task, count)
        self._bars.update(task, completed=total)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


class StepBar(TrainerCallback):
    """Moves a stage's bar on with every optimizer step."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.advance(1)
