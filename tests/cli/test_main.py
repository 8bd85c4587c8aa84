"""The command `unveil` itself."""

import subprocess
import sys

import pytest

from unveil import __version__
from unveil.cli.main import COMMANDS


def test_without_a_command_the_commands_are_told(unveil):
    for words in ((), ("--help",)):
        code, out, _ = unveil(*words)
        assert code == 0
        assert all(f"  {name} " in out for name in COMMANDS)


def test_version(unveil):
    assert unveil("--version").out.strip() == __version__


def test_an_unknown_command_is_refused(unveil):
    code, _, err = unveil("trian")
    assert code == 2
    assert err.count("\n") == 1
    assert "no command 'trian'; choose one of demo, train" in err


@pytest.mark.parametrize("words", [("--prompt", "\udcff"), ("--output_file=\udcfe",)])
def test_a_word_that_is_no_text_is_refused(unveil, words):
    code, _, err = unveil("generate", *words)
    assert code == 2
    assert err.count("\n") == 1
    assert "is not UTF-8 text" in err


def test_bad_input_ends_the_process_with_code_two_and_one_line():
    words = [sys.executable, "-m", "unveil.cli.main", "train", "--beta", "much"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("unveil train: error: argument --beta: invalid float value: 'much'")


def test_a_disk_that_refuses_is_one_line_too(unveil, base, thumbs, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device", "answers.jsonl")

    monkeypatch.setattr("unveil.cli.likelihood.write_rows", full)
    code, _, err = unveil(
        "likelihood", "--model_name_or_path", base, "--dataset_name", thumbs, "--output_file", "answers.jsonl"
    )
    assert code == 2
    assert err == "unveil likelihood: error: answers.jsonl: No space left on device; check the path and the disk\n"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("demo", "objectives")])
def test_every_command_asks_for_what_it_needs(unveil, command):
    code, _, err = unveil(command)
    assert code == 2
    assert err.startswith(f"unveil {command}: error: --")
    assert "is missing; give" in err
