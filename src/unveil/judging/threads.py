"""Work in a bounded number of threads that ends well: on an error or Ctrl-C what is under way may still arrive."""

import queue
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from unveil.terminal import one_line

Item = TypeVar("Item")


class StoppedError(Exception):
    """Raised by work that gives up because `stop` was set."""


def in_threads(
    work: Callable[[Item], None],
    items: Iterable[Item],
    threads: int,
    stop: threading.Event,
    title: str | None = None,
) -> None:
    """Call `work` on every item, up to `threads` at a time; returns when all is done.

    The first exception sets `stop`, lets what is under way finish, and is raised; items that were not begun are left.
    Ctrl-C does the same, and a second one leaves at once. `stop` is for `work` to look at where it waits.
    title: what a bar on a terminal (stderr) says; None = no bar.
    """
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    count = 0
    for item in items:
        waiting.put(item)
        count += 1
    errors: list[BaseException] = []
    bar = Progress(console=Console(stderr=True), transient=True) if title and sys.stderr.isatty() else None
    task = bar.add_task(escape(one_line(title or "")), total=count) if bar else None

    # Not `Thread.join`: interrupted there, Python before 3.13 takes a running thread for a finished one.
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def run() -> None:
        try:
            while not stop.is_set():
                work(waiting.get_nowait())
                if bar and task is not None:
                    bar.advance(task)
        except (queue.Empty, StoppedError):
            pass
        except BaseException as error:
            errors.append(error)
            stop.set()
        finally:
            ended.put(None)

    workers = [threading.Thread(target=run, daemon=True) for _ in range(min(threads, count))]
    with bar or nullcontext():
        for worker in workers:
            worker.start()
        left = len(workers)
        try:
            while left:
                ended.get()
                left -= 1
        except KeyboardInterrupt:
            stop.set()
            print(
                f"unveil: stopping; waiting for what is under way ({left} at most); Ctrl-C leaves it", file=sys.stderr
            )
            for _ in range(left):
                ended.get()
            raise
    if errors:
        raise errors[0]
