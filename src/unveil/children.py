"""Commands in processes of their own that never outlive the process that started them.

A child leads its own group of processes. What ends this process, Ctrl-C or a signal, is handed on to the group; if this
process is killed outright, Linux kills the child.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO

_PR_SET_PDEATHSIG = 1
_HANDED_ON = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_PATIENCE = 300.0  # seconds for a child to end by itself (it may be saving) before it is killed


class StoppedBySignalError(SystemExit):
    """This process was asked to end while a child ran; the child has ended. Its code is the shell's: 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def run_child(command: Sequence[str], output: IO[bytes]) -> int:
    """Run a command, all its output to a file, and return its exit code (negative: the signal that ended it).

    Raises:
        KeyboardInterrupt, StoppedBySignalError: this process was interrupted or asked to end; the child ended before.
    """
    arrived: list[int] = []
    with _signals_go_to(arrived) as children:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=_dies_with(os.getpid()) if sys.platform == "linux" else None,
        )
        children.append(child)
        try:
            code = _waited(child, arrived)
        finally:
            _end(child)
    if arrived:
        if arrived[0] == signal.SIGINT:
            raise KeyboardInterrupt
        raise StoppedBySignalError(arrived[0])
    return code


def _waited(child: subprocess.Popen, arrived: list[int]) -> int:
    """The child's exit code. Once a signal was handed on, it has some time left; the third signal ends it."""
    last = None
    while True:
        try:
            return child.wait(1.0)
        except subprocess.TimeoutExpired:
            if arrived:
                last = last or time.monotonic() + _PATIENCE
                if len(arrived) > 2 or time.monotonic() > last:
                    _send(child, signal.SIGKILL)


@contextlib.contextmanager
def _signals_go_to(arrived: list[int]) -> Iterator[list[subprocess.Popen]]:
    """Hand signals on to the children, and note them; where this is not the main thread, they stay as they are."""
    children: list[subprocess.Popen] = []

    def hand_on(number: int, frame: object) -> None:
        arrived.append(number)
        for child in children:
            _send(child, number)

    before = {}
    with contextlib.suppress(ValueError):  # only the main thread may
        before = {number: signal.signal(number, hand_on) for number in _HANDED_ON}
    try:
        yield children
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(child: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _end(child: subprocess.Popen) -> None:
    """Leave nothing of the child's group behind."""
    _send(child, signal.SIGKILL)
    child.wait()


def _dies_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes its command: ask to be killed when its parent dies."""
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has died meanwhile
            os._exit(1)

    return ask
