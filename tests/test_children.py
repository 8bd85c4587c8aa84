"""A command in a process of its own ends when its parent does, and how it ended is told."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from unveil.children import StoppedBySignalError, run_child

# Starts a child that starts a grandchild, and tells both names.
PARENT = """
import sys
from unveil.children import run_child
inner = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);" \\
    "import os; open(sys.argv[1], 'w').write(f'{os.getpid()} {p.pid}\\\\n'); time.sleep(60)"
with open(sys.argv[2], "wb") as log:
    run_child([sys.executable, "-c", inner, sys.argv[1]], log)
"""


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_child_does_not_outlive_its_parent(tmp_path, blow):
    pids, log = tmp_path / "pids", tmp_path / "log"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(pids), str(log)],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    child, grandchild = map(int, pids.read_text().split())
    try:
        parent.send_signal(blow)
        code = parent.wait(20)
        until(lambda: not is_running(child))
        if blow == signal.SIGKILL:  # the grandchild is the child's to end
            assert code == -9
        else:
            assert code == {signal.SIGTERM: 143, signal.SIGHUP: 129}.get(blow, -signal.SIGINT)
            until(lambda: not is_running(grandchild))
    finally:
        if is_running(grandchild):
            os.kill(grandchild, signal.SIGKILL)


def test_the_exit_code_of_a_child_is_told(tmp_path):
    for words, code in (("print(1)", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9)):
        with open(tmp_path / "log", "wb") as log:
            assert run_child([sys.executable, "-c", words], log) == code
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_is_handed_on_and_what_the_child_writes_then_is_kept(tmp_path):
    """A training saves a checkpoint first."""
    words = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(0)));"
        f"open({str(tmp_path / 'ready')!r}, 'w'); time.sleep(60)"
    )

    def when_ready():
        until((tmp_path / "ready").exists)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=when_ready, daemon=True).start()
    with open(tmp_path / "log", "wb") as log, pytest.raises(StoppedBySignalError) as told:
        run_child([sys.executable, "-c", words], log)
    assert told.value.code == 143
    assert (tmp_path / "log").read_text() == "saved\n"
