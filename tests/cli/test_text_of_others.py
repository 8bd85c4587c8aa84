"""What models, files and judges say reaches the terminal as text, in whatever encoding the terminal has."""

import io
import sys

import pytest
from command_files import write_rows

PROMPTS = [{"prompt": "say \x1b[31mred\x1b[0m:", "completion": " \x1b]0;title\x07 [/b] done", "label": True}]


@pytest.fixture
def prompts(tmp_path) -> str:
    return write_rows(tmp_path / "pro\x1bmpts.jsonl", PROMPTS * 3)


SHORT = ("--gen_length", 4, "--steps", 2, "--device", "cpu")


def test_generate_prints_no_control_characters(unveil, base, prompts):
    code, out, err = unveil("generate", "--model_name_or_path", base, "--dataset_name", prompts, *SHORT)
    assert code == 0
    assert "\\x1b[31mred" in out
    assert "\x1b" not in out + err


def test_likelihood_shows_control_characters_and_markup_of_answers(unveil, base, prompts):
    code, out, err = unveil("likelihood", "--model_name_or_path", base, "--dataset_name", prompts, "--num_draws", 2)
    assert code == 0
    assert "\x1b" not in out + err
    assert "[/b] done" in out


@pytest.mark.parametrize("judge", ["regex:[/x]", "regex:[a-z]+", "regex:[bold]"])
def test_the_name_of_a_judge_is_no_markup(unveil, base, prompts, tmp_path, judge):
    code, out, _ = unveil(
        "compare", "--model", base, "--against", base, "--dataset_name", prompts, "--judge", judge, "--output_dir",
        tmp_path / "out", *SHORT,
    )  # fmt: skip
    assert code == 0
    assert judge.removeprefix("regex:") in out
    assert (tmp_path / "out" / "compare.json").is_file()


def test_an_error_shows_what_a_name_holds(unveil, base):
    code, _, err = unveil("likelihood", "--model_name_or_path", base, "--dataset_name", "no\x1b[2J\nsuch.jsonl")
    assert code == 2
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert "no\\x1b[2J\\nsuch.jsonl" in err


def test_an_encoding_that_lacks_a_character_loses_no_answer(unveil, base, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    from unveil.cli.main import main

    assert main(["generate", "--model_name_or_path", base, "--prompt", "café", *map(str, SHORT)]) == 0
    sys.stdout.flush()
    assert b"caf\\xe9" in raw.getvalue()
    assert b"1 answers" in raw.getvalue()


def test_a_full_disk_behind_standard_output_is_one_line(base, monkeypatch, capsys):
    from unveil.cli.main import main

    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code = main(["generate", "--model_name_or_path", base, "--prompt", "x", *map(str, SHORT)])
        monkeypatch.undo()
        assert code == 2
    told = "unveil generate: error: standard output: No space left on device; make room or check the disk\n"
    assert capsys.readouterr().err == told
