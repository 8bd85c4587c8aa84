"""What an endpoint has answered, kept in a file from the moment it arrives.

One JSON object per line, appended with a single write, so that several threads and several processes may add to one
file and a kill loses at most the line being written. A torn or foreign line is passed over, counted, and never mended
by guessing. The key is a hash of all that shapes an answer; the judge's words are kept, not the verdict read from
them, so that a better reader of verdicts can read them again for nothing. A question that is being asked is claimed,
so that another process on the same file waits for the answer instead of paying for it too.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unveil.checksums import opened, sealed
from unveil.errors import UserError
from unveil.judging.claims import Claims
from unveil.judging.whole_text import whole_text


@dataclass(frozen=True)
class Reply:
    """What a judge wrote, and the tokens it took where the endpoint tells them."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", whole_text(self.text))


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
        self._read_to = 0  # bytes of the file that were read, up to a line break
        self._claims = Claims(f"{self.path}.lock") if self.path else None
        if self.path:
            self._open(self.path)

    def get(self, key: str) -> Reply | None:
        """The reply, or None."""
        with self._lock:
            return self._replies.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply; it is in the file when this returns."""
        line = json.dumps(sealed({"key": key, **asdict(reply)})) + "\n"  # ASCII: no line break but the last
        with self._lock:
            self._replies[key] = reply
            if self._file is not None:
                self._append(line.encode("ascii"))

    @contextmanager
    def claim(self, key: str, stop: threading.Event, wait: bool = True) -> Iterator[bool]:
        """Hold a question while it is asked; whatever others were answered meanwhile can be had with `get` then.

        Gives False if somebody else holds it: at once with wait=False, otherwise only when `stop` was set.
        """
        if self._claims is None:
            yield True
            return
        with self._claims.held(key, stop, wait) as held:
            if held:
                self._refresh()
            yield held

    def _refresh(self) -> None:
        """Read what other processes have added."""
        with self._lock:
            if self._file is None or os.fstat(self._file).st_size <= self._read_to:
                return
            self._take(_rest_of(self._file, self._read_to))

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
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            whole = _rest_of(self._file, 0)
        except OSError as error:
            raise UserError(f"{path}: cannot be used as a cache ({error.strerror}); give another name") from error
        if whole and not whole.endswith(b"\n"):
            self._append(b"\n")  # what a kill left half written must not swallow the next line
            whole += b"\n"
        self._take(whole)

    def _take(self, data: bytes) -> None:
        """Keep the replies of whole lines; the rest is read again when it is whole."""
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for key, reply in self._read(whole):
            self._replies.setdefault(key, reply)

    def _read(self, whole: bytes) -> Iterator[tuple[str, Reply]]:
        for line in whole.split(b"\n"):
            if not line.strip():
                continue
            try:
                fields = opened(json.loads(line))
                key, text = fields.pop("key"), fields.pop("text")
                if not (isinstance(key, str) and isinstance(text, str)):
                    raise TypeError("no reply")
                reply = Reply(text, **fields)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
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


def _rest_of(file: int, start: int) -> bytes:
    """The bytes of an open file from `start` on."""
    parts = []
    while part := os.pread(file, 1 << 20, start):
        parts.append(part)
        start += len(part)
    return b"".join(parts)
