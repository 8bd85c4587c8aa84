"""What all processes of a run say is said once; what happens to one of them is said by that one."""

import json
import os
import time

import pytest

from unveil import one_voice
from unveil.cli.main import main
from unveil.one_voice import is_said_here


@pytest.fixture(autouse=True)
def notes(tmp_path, monkeypatch):
    """Where notes are left."""
    monkeypatch.setattr(one_voice.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def process(rank: int, size: int = 2, port: int = 1) -> dict[str, str]:
    return {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_PORT": str(port)}


def test_one_process_of_a_run_says_what_all_say():
    assert [is_said_here("no such file", process(rank, 3)) for rank in (1, 0, 2)] == [True, False, False]
    assert is_said_here("no such file", process(1, 3)), "and the same one says it again"
    assert is_said_here("no such file", process(0, port=2)), "another run"
    assert is_said_here("out of memory", process(2, 3)), "what happens to one alone"


def test_numbers_of_the_rows_of_a_process_make_no_other_message():
    assert is_said_here("step 3: a row has 40 tokens", process(0))
    assert not is_said_here("step 3: a row has 38 tokens", process(1))


def test_a_process_alone_says_everything():
    assert all(is_said_here("text", environment) for environment in ({}, {}, process(0, 1), process(0, 1)))


def test_a_later_word_is_a_new_one(notes):
    assert is_said_here("text", process(0))
    (note,) = next(notes.iterdir()).iterdir()
    os.utime(note, (time.time() - 100,) * 2)
    assert is_said_here("text", process(1))
    assert not is_said_here("text", process(0))


def test_rather_twice_than_never_where_no_note_can_be_left(notes):
    is_said_here("text", process(0))
    folder = next(notes.iterdir())
    folder.chmod(0o777)
    assert is_said_here("text", process(1)), "others could have written there"
    for note in folder.iterdir():
        note.unlink()
    folder.rmdir()
    folder.write_text("a file")
    assert is_said_here("text", process(1))


def test_errors_and_warnings_of_the_command_are_printed_by_one_process_and_left_for_torchrun(
    notes, monkeypatch, capsys
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    report = notes / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(report))
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert main(["merge", "--model", "nowhere", "--output_dir", str(notes / "m")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert json.loads(report.read_text())["message"]["message"] == error.strip()
