"""A second process is kept out of an output folder or file, and told who is in it; a dead one keeps nobody out."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from unveil import locks
from unveil.errors import UserError, UserInputWarning
from unveil.files import require_empty

HOLD = """
import sys
from unveil.locks import claim_folder, claim_file
(claim_folder if sys.argv[1] == "folder" else claim_file)(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _released():
    with locks.claims_end_here():
        yield


@pytest.fixture
def held_elsewhere():
    """`held_elsewhere("folder", path)`: the process that holds it."""
    running = []

    def start(kind: str, path: Path) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, kind, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_the_second_process_is_told_pid_and_host_of_the_first(tmp_path, held_elsewhere, kind):
    claim = locks.claim_folder if kind == "folder" else locks.claim_file
    process = held_elsewhere(kind, tmp_path / "x")
    with pytest.raises(UserError) as told:
        claim(tmp_path / "x", "--output")
    assert f"--output {tmp_path / 'x'}: process {process.pid} on {socket.gethostname()}" in str(told.value)
    assert "\n" not in str(told.value)
    process.kill()  # leaves its lock file behind
    process.wait()
    claim(tmp_path / "x").release()
    assert [path for path in tmp_path.rglob("*") if path.name.endswith(".lock")] == []


def test_a_claim_is_no_content_and_its_own_folder_disappears_with_it(tmp_path):
    claim = locks.claim_folder(tmp_path / "a" / "b")
    require_empty(tmp_path / "a" / "b", overwrite=False)
    claim.release()
    assert list(tmp_path.iterdir()) == []
    claim = locks.claim_folder(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "result").touch()
    claim.release()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["result"]


def test_one_process_does_not_write_one_file_twice(tmp_path):
    locks.claim_file(tmp_path / "x")
    with pytest.raises(UserError, match=r"this process .* already"):
        locks.claim_file(tmp_path / "x")


def test_what_was_claimed_inside_is_released_at_the_end(tmp_path):
    locks.claim_folder(tmp_path / "outer")
    with locks.claims_end_here():
        locks.claim_folder(tmp_path / "inner")
    locks.claim_folder(tmp_path / "inner")
    with pytest.raises(UserError, match="already"):
        locks.claim_folder(tmp_path / "outer")


def test_a_lock_file_that_was_removed_while_it_was_waited_for_is_not_taken(tmp_path, monkeypatch):
    """The first holder releases between the second one's open and its lock: what is locked then is a removed file."""
    first, fcntl = locks.claim_folder(tmp_path), locks.fcntl
    original = fcntl.flock

    def slow(handle, how):
        monkeypatch.setattr(fcntl, "flock", original)
        first.release()
        original(handle, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    second = locks.claim_folder(tmp_path)
    assert os.path.samestat(os.fstat(second._handle), second.file.stat())
    assert json.loads(second.file.read_text())["pid"] == os.getpid()


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch):
    def none(handle, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    with pytest.warns(UserInputWarning, match="has no locks"):
        locks.claim_folder(tmp_path)
