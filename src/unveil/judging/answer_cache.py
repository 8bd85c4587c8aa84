"""What an endpoint has answered, kept in a file from the moment it arrives.

One JSON object per line, appended with a single write, so that several threads and several processes may add to one
file and a kill loses at most the line being written. A torn or foreign line is passed over, counted, and never mended
by guessing. The key is a hash of all that shapes an answer; the judge's words are kept, not the verdict read from
them, so that a better reader of verdicts can read them again for nothing.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unveil.errors import UserError


@dataclass(frozen=True)
class Reply:
    """What a judge wrote, and the tokens it took where the endpoint tells them."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None


def content_key(**parts: Any) -> str:
    """A hash of everything that shapes an answer: 32 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class AnswerCache:
    """Replies by key, in memory and, with a path, in a file.

    `passed_over` counts lines of the file that are no reply (the end of an interrupted write, for instance).
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path else None
        self.passed_over = 0
        self._replies: dict[str, Reply] = {}
        self._lock = threading.Lock()
        self._file: int | None = None
        if self.path:
            self._open(self.path)

    def get(self, key: str) -> Reply | None:
        """The reply, or None."""
        with self._lock:
            return self._replies.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply; it is in the file when this returns."""
        line = json.dumps({"key": key, **asdict(reply)}) + "\n"  # ASCII: no line break but the last
        with self._lock:
            self._replies[key] = reply
            if self._file is not None:
                self._append(line.encode("ascii"))

    def __len__(self) -> int:
        return len(self._replies)

    def close(self) -> None:
        """Close the file; the cache can still be read."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            whole = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be used as a cache ({error.strerror}); give another name") from error
        if whole and not whole.endswith(b"\n"):
            self._append(b"\n")  # what a kill left half written must not swallow the next line
        for key, reply in self._read(whole):
            self._replies.setdefault(key, reply)

    def _read(self, whole: bytes) -> Iterator[tuple[str, Reply]]:
        for line in whole.splitlines():
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
                key, reply = fields.pop("key"), Reply(**fields)
                if not (isinstance(key, str) and isinstance(reply.text, str)):
                    raise TypeError("no reply")
            except (ValueError, TypeError, KeyError, AttributeError):
                self.passed_over += 1
            else:
                yield key, reply

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        assert self.path is not None
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); make room and run again") from error
        if written < len(line):
            raise UserError(f"{self.path}: was written only in part; make room on the disk and run again")
