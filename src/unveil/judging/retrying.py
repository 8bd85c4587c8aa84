"""How long to wait before asking an endpoint again: exponential backoff with jitter, or what `Retry-After` says."""

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class Backoff:
    """Waits of `first`, 2 `first`, 4 `first`, ... seconds, at most `longest`, each times a random number in [1/2, 1].

    tries: attempts per request in all.
    """

    tries: int = 6
    first: float = 1.0
    longest: float = 60.0

    def wait(self, failures: int) -> float:
        """Seconds after so many failures in a row, 1 or more."""
        return min(self.longest, self.first * 2.0 ** (failures - 1)) * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait (`retry-after-ms`, or `retry-after` in seconds or as a date), or None."""
    milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        return None if value is None else max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(str(value)).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


@dataclass
class Pause:
    """A time before which nobody sends: when one thread is told to wait, the others wait too."""

    _until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask_for(self, seconds: float) -> None:
        """Nobody sends for so many seconds from now."""
        with self._lock:
            self._until = max(self._until, time.monotonic() + seconds)

    def wait(self, stop: threading.Event, at_least: float = 0.0) -> None:
        """Wait for the end of the pause and at least so long, but not after `stop`."""
        end = time.monotonic() + at_least
        while not stop.is_set():
            with self._lock:
                left = max(self._until, end) - time.monotonic()
            if left <= 0:
                return
            stop.wait(left)
