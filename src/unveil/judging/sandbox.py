"""A Python program and its tests in a process that can do no harm, and the reason why it did not pass.

The process has limits on time, memory, files and output, no network, no way to start others, a folder of its own in
memory, and nothing of our environment. It is meant for programs that a model wrote: against harm, not against a
program that knows this sandbox and fakes its result.
"""

import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unveil.errors import UserError

_CHILD = Path(__file__).with_name("sandbox_child.py")
_LINE = 1 << 16
# Starting Python is not the program's fault, however busy the machine is.
_START = 120.0


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    seconds: of processor time; it must end after three times as many by the clock. file_mib: in all its files.
    without: layers of the sandbox to leave out, so that the others can be tested.
    """

    seconds: float = 10.0
    memory_mib: int = 1024
    file_mib: int = 16
    output_kib: int = 256
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise UserError(f"--judge_seconds {self.seconds}: must be positive")
        if self.memory_mib < 64:
            raise UserError(f"--judge_memory {self.memory_mib}: must be at least 64 (MiB)")
        if self.file_mib < 1 or self.output_kib < 1:
            raise UserError(f"sandbox: file_mib {self.file_mib} and output_kib {self.output_kib} must be positive")


@dataclass
class Outcome:
    """Whether the tests passed; if not, why. layers: what the kernel held the program with."""

    passed: bool = False
    reason: str = ""
    output: str = ""
    layers: list[str] = field(default_factory=list)


def run_sandboxed(program: str, tests: str, limits: Limits | None = None) -> Outcome:
    """Run `program`, then `tests` in its names: plain statements, `test_...` functions, `unittest` classes."""
    limits = limits or Limits()
    if sys.platform != "linux":
        raise UserError("judge unit_tests: programs can be held in a sandbox on Linux only; use another judge here")
    with tempfile.TemporaryDirectory(prefix="unveil-sandbox-") as folder, tempfile.TemporaryFile() as request:
        word = secrets.token_hex(16)
        fields = {"program": program, "tests": tests, "folder": folder, "word": word, "limits": asdict(limits)}
        request.write(json.dumps(fields).encode())
        request.seek(0)
        ours, theirs = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", str(_CHILD), str(theirs)],
                stdin=request,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs],
                cwd=folder,
                env=_environment(folder),
                start_new_session=True,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        with os.fdopen(ours, "rb") as channel:
            try:
                watched = _Watch(process, channel.fileno(), word, limits)
                return watched.outcome()
            finally:
                _end(process)


def _environment(folder: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder, **threads, **kept}


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


class _Watch:
    """Listens to a child until it ends, talks too much or takes too long."""

    def __init__(self, process: subprocess.Popen[bytes], channel: int, word: str, limits: Limits) -> None:
        self.process, self.channel, self.word, self.limits = process, channel, word, limits
        self.said, self.output = bytearray(), bytearray()
        self.end = time.monotonic() + _START
        self.started = False

    def outcome(self) -> Outcome:
        """What became of the program."""
        stopped = self._listen()
        facts: dict[str, Any] = {}
        for message in self._messages():
            facts.update(message)
        outcome = Outcome(output=self.output.decode("utf-8", "replace"), layers=facts.get("layers", []))
        done = facts.get("done") == self.word
        if "tried" in facts:
            outcome.reason = f"tried to {facts['tried']}" + (f", and {stopped}" if stopped else "")
        elif stopped:
            outcome.reason = stopped
        elif done:
            outcome.passed, outcome.reason = facts.get("reason") is None, facts.get("reason") or ""
        else:
            outcome.reason = self._death(self.process.wait())
        return outcome

    def _listen(self) -> str | None:
        """Why the program was stopped; None if it ended by itself."""
        assert self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ, self.output)
            selector.register(self.channel, selectors.EVENT_READ, self.said)
            while selector.get_map():
                left = self.end - time.monotonic()
                if left <= 0:
                    return self._too_long()
                for key, _ in selector.select(left):
                    data = os.read(key.fd, _LINE)
                    key.data.extend(data)
                    if not data:
                        selector.unregister(key.fileobj)
                if len(self.output) > self.limits.output_kib * 1024:
                    return f"wrote more than {self.limits.output_kib} KiB"
                if len(self.said) > self.limits.output_kib * 1024:
                    return "did so again and again"
                self._start_clock()
        return None

    def _start_clock(self) -> None:
        if not self.started and b"\n" in self.said:
            self.started = True
            self.end = time.monotonic() + 3 * self.limits.seconds

    def _too_long(self) -> str:
        return f"did not end within {3 * self.limits.seconds:g} s" if self.started else "Python did not start"

    def _messages(self) -> Iterator[dict[str, Any]]:
        for line in bytes(self.said).splitlines():
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict):
                yield message

    def _death(self, code: int) -> str:
        if code == -signal.SIGXCPU:
            return f"used more than {self.limits.seconds:g} s of processor time"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        if not self.started:
            lines = self.output.decode("utf-8", "replace").strip().splitlines()
            raise UserError(f"judge unit_tests: the sandbox did not start ({lines[-1] if lines else code})")
        return "ended before its tests were done"
