"""`unveil inspect data`: one table of faults, exit code 0 or 2, the same faults that training refuses."""

import json
import warnings

from command_files import THUMBS, write_rows


def test_a_sound_file_is_said_to_be_sound(unveil, thumbs):
    outcome = unveil("inspect", "data", thumbs)
    assert outcome.code == 0
    assert "12 rows of thumbs (prompt, completion, label), 6 thumbs up, 6 thumbs down" in outcome.out
    assert "all 12 rows can be used" in outcome.out


def test_all_faults_stand_in_one_table_and_the_exit_code_is_2(unveil, tmp_path):
    rows = [*THUMBS, {**THUMBS[0], "label": None}, {**THUMBS[0], "completion": ""}, {**THUMBS[0], "prompt": 5}]
    data = write_rows(tmp_path / "bad.jsonl", rows)
    outcome = unveil("inspect", "data", data)
    assert (outcome.code, outcome.err) == (2, "")
    for words in ("label is None", "the completion is empty", "column 'prompt' holds 5"):
        assert words in " ".join(outcome.out.split())
    assert "12 of 15 rows can be used; --on_bad_rows drop leaves the other 3 out" in outcome.out
    told = json.loads(unveil("inspect", "data", data, "--json").out)
    assert (told["rows"], told["usable"], told["sound"], told["labels"]) == (15, 12, False, {"up": 6, "down": 6})
    assert sorted(row for fault in told["faults"] for row in fault["rows"]) == [12, 13, 14]


def test_what_cannot_be_inspected_is_one_line(unveil, tmp_path):
    for words in ((), ("model", "x"), ("data",), ("data", tmp_path / "gone.jsonl"), ("data", "x.jsonl", "--no_flag")):
        outcome = unveil("inspect", *words)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)


def test_what_inspect_calls_usable_is_what_training_with_drop_takes(unveil, base, tmp_path, recwarn):
    rows = [*THUMBS, {**THUMBS[0], "label": "maybe"}, {**THUMBS[0], "label": None}, {**THUMBS[0], "completion": [1]}]
    data = write_rows(tmp_path / "bad.jsonl", rows)
    assert json.loads(unveil("inspect", "data", data, "--json").out)["usable"] == 12

    with warnings.catch_warnings(action="ignore"):
        outcome = unveil(
            "plan", "--model_name_or_path", base, "--dataset_name", data, "--on_bad_rows", "drop", "--json"
        )
    assert json.loads(outcome.out)["data"]["rows"] == 12
