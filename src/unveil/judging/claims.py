"""Claims on single questions, seen by every process that uses the same file, and gone with the process that made them.

Each claim is a lock of the system on one byte of a lock file, at a place made from the question's key. It belongs to an
open file, not to a process, so threads and processes alike exclude each other, and a kill releases it.
"""

import fcntl
import hashlib
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from unveil.errors import warn_user

_POLL = 0.05  # seconds between two looks at a claim of somebody else
_SET = getattr(fcntl, "F_OFD_SETLK", None)


class Claims:
    """The claims that are made in one file; where it cannot be locked, every claim is granted, with a warning."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._works = _SET is not None

    @contextmanager
    def held(self, key: str, stop: threading.Event, wait: bool) -> Iterator[bool]:
        """Hold the claim on `key`; False: somebody else does, or (with wait) `stop` was set before it was free."""
        file = self._open() if self._works else None
        if file is None:
            yield True
            return
        try:
            held = self._lock(file, key)
            while not held and wait and not stop.wait(_POLL):
                held = self._lock(file, key)
            yield held
        finally:
            os.close(file)  # releases the lock

    def _open(self) -> int | None:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            self._give_up(error)
            return None

    def _lock(self, file: int, key: str) -> bool:
        place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 2
        wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
        try:
            fcntl.fcntl(file, _SET or 0, wanted)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in (11, 13):
                return False
            self._give_up(error)
        return True

    def _give_up(self, error: OSError) -> None:
        if self._works:
            self._works = False
            warn_user(
                f"{self.path}: cannot be locked ({error.strerror}); another process on the same cache may pay for the "
                "same questions, so run one at a time"
            )
