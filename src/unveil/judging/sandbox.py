"""A Python program and its tests in processes that can do no harm, and the reason why it did not pass.

The program has limits on time, memory, files and output, no network, no way to start others or to reach them, a folder
of its own in memory, and nothing of our environment. Its tests run in another process, which compares what the program
gives and holds the channel for the result: a program can give wrong values, and no verdict.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unveil.errors import UserError, warn_user
from unveil.judging.sandbox_view import bubblewrap, readable_places

_CHILD = Path(__file__).with_name("sandboxed") / "child.py"
_LINE = 1 << 16
# Starting Python is not the program's fault, however busy the machine is.
_START = 120.0


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    seconds: of processor time; it must end after three times as many by the clock. file_mib: in all its files.
    unsafe: run it also where the sandbox cannot hold it. without: layers of the sandbox to leave out, so that the
    others can be tested ("bubblewrap", "unshare", "landlock", "seccomp").
    """

    seconds: float = 10.0
    memory_mib: int = 1024
    file_mib: int = 16
    output_kib: int = 256
    without: tuple[str, ...] = ()
    unsafe: bool = False

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise UserError(f"--judge_seconds {self.seconds}: must be positive")
        if self.memory_mib < 64:
            raise UserError(f"--judge_memory {self.memory_mib}: must be at least 64 (MiB)")
        if self.file_mib < 1 or self.output_kib < 1:
            raise UserError(f"sandbox: file_mib {self.file_mib} and output_kib {self.output_kib} must be positive")


@dataclass
class Outcome:
    """Whether the tests passed; if not, why. layers: what held the program. missing: what it could have done."""

    passed: bool = False
    reason: str = ""
    output: str = ""
    layers: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def sandbox_layers(limits: Limits | None = None) -> list[str]:
    """The layers that hold programs on this machine; docs/judges.md says what each of them does.

    Warns where a program could do harm and `limits` says that it may.

    Raises:
        UserError: a program could do harm under them, and `limits` does not say that it may.
    """
    found = run_sandboxed("", "", limits)
    if found.missing:
        warn_user(f"judge unit_tests: a program can {', '.join(found.missing)}, as --unsafe_sandbox allows")
    return found.layers


def run_sandboxed(program: str, tests: str, limits: Limits | None = None) -> Outcome:
    """Run `program`, and `tests` that use its names: plain statements, `test_...` functions, `unittest` classes.

    Raises:
        UserError: the sandbox of this machine is below the minimum (see `sandbox_layers`), or does not start.
    """
    limits = limits or Limits()
    if sys.platform != "linux":
        raise UserError("judge unit_tests: programs can be held in a sandbox on Linux only; use another judge here")
    with tempfile.TemporaryDirectory(prefix="unveil-sandbox-") as folder:
        outer = [] if "bubblewrap" in limits.without else bubblewrap(folder, limits.file_mib)
        request = {
            "program": program,
            "folder": folder,
            "limits": asdict(limits),
            "bubblewrap": bool(outer),
            "readable": readable_places(),
        }
        with _handed_over(request) as asked, _handed_over(tests) as checked:
            return _run(outer, asked, checked, folder, limits)


@contextmanager
def _handed_over(value: Any) -> Iterator[int]:
    """A descriptor of a file without a name that holds the value as JSON."""
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(value).encode())
        file.seek(0)
        yield file.fileno()


def _run(outer: list[str], request: int, tests: int, folder: str, limits: Limits) -> Outcome:
    ours, theirs = os.pipe()
    judge_there, judge = os.pipe()  # nothing is written; it ends when this process does
    try:
        process = subprocess.Popen(
            [
                *outer,
                sys.executable,
                "-I",
                str(_CHILD),
                *map(str, (theirs, tests, judge_there, 0 if outer else os.getpid())),
            ],
            stdin=request,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs, tests, judge_there],
            cwd="/",
            env=_environment(folder),
            start_new_session=True,
        )
    except BaseException:
        os.close(ours)
        os.close(judge)
        raise
    finally:
        os.close(theirs)
        os.close(judge_there)
    with os.fdopen(ours, "rb") as channel:
        try:
            return _Watch(process, channel.fileno(), limits).outcome()
        finally:
            _end(process)
            os.close(judge)


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

    def __init__(self, process: subprocess.Popen[bytes], channel: int, limits: Limits) -> None:
        self.process, self.channel, self.limits = process, channel, limits
        self.said, self.output = bytearray(), bytearray()
        self.end = time.monotonic() + _START
        self.started = False

    def outcome(self) -> Outcome:
        """What became of the program."""
        stopped = self._listen()
        facts: dict[str, Any] = {}
        for message in self._messages():
            facts.update(message)
        outcome = Outcome(output=self.output.decode("utf-8", "replace"))
        outcome.layers, outcome.missing = facts.get("layers", []), facts.get("missing", [])
        if outcome.missing and not self.limits.unsafe:
            raise _below_the_minimum(outcome.missing)
        if "tried" in facts:
            outcome.reason = f"tried to {facts['tried']}" + (f", and {stopped}" if stopped else "")
        elif stopped:
            outcome.reason = stopped
        elif "done" in facts:
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


def _below_the_minimum(missing: list[str]) -> UserError:
    harm = ", ".join(missing)
    seccomp = " and use a kernel with seccomp" if "reach other processes" in missing else ""
    return UserError(
        f"judge unit_tests: on this machine a program could {harm}; install bubblewrap (bwrap){seccomp}, or give "
        "--unsafe_sandbox if you trust every program"
    )
