"""Stop code of others, such as a template that a file brought along, that does not come to an end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A chat template writes a prompt in milliseconds; one with loops in loops would go on for days.
SECONDS_OF_A_TEMPLATE = 10.0


class TookTooLong(Exception):  # noqa: N818 - it is what happened, and its text is shown to people
    """The code did not end within its time."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TookTooLong` inside the block after so many seconds.

    It interrupts Python code, not a long call into C. Python can be interrupted in the main thread only: in another
    one, or where the system knows no timers, the block runs without a limit. Blocks may not be nested.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame) -> None:
        raise TookTooLong(f"it took longer than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
