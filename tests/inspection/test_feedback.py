"""Faults of a file: all of them at once, by the readers that training uses."""

import json

import pytest

from unveil.data import load_rows
from unveil.inspection import Inspection, inspect_rows

GOOD = {"prompt": "p", "completion": "c", "label": True}


@pytest.fixture
def inspected(tmp_path):
    def look(*lines: object, **options) -> Inspection:
        path = tmp_path / "rows.jsonl"
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_bytes(b"".join(text.encode("utf-8", "surrogateescape") + b"\n" for text in texts))
        return inspect_rows(load_rows(path, on_bad_rows="drop"), "f", **options)

    return look


def test_every_kind_of_fault_is_told_at_once_with_its_rows(inspected):
    found = inspected(
        GOOD, {**GOOD, "label": False, "completion": "d"}, {**GOOD, "label": None},
        {**GOOD, "completion": " ", "label": None},
        '{"prompt": "p", ', '{"prompt": "p", "completion": "\\ud83d", "label": true}', {**GOOD, "label": "meh"},
        {**GOOD, "prompt": [{"role": "user", "content": [{"type": "image_url"}]}]}, "[1]", "5" * 5000, "[" * 5000,
        '{"prompt": "\udcff"}', {**GOOD, "label": 3},
    )  # fmt: skip
    told = {one.reason.split(" (")[0]: one.rows for one in found.faults}
    assert found.rows == 13
    assert found.usable == 2
    assert not found.sound
    assert sorted({row for rows in told.values() for row in rows}) == list(range(2, 13))
    assert told["label is None"] == [2, 3]
    assert told["the completion is empty"] == [3]
    assert told["broken JSON"] == [4]
    assert told["not UTF-8 text"] == [11]
    assert [row for reason, rows in told.items() if "surrogate" in reason or "ud83d" in reason for row in rows] == [5]
    assert all(one.remedy and len(one.describe()) < 260 for one in found.faults)
    assert found.labels == {"up": 1, "down": 1}
    json.dumps(found.summary())


@pytest.mark.parametrize(
    ("row", "form"),
    [
        (GOOD, "thumbs"),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, "pairs"),
        ({"prompt": "p", "completions": ["a", "b"], "scores": [1, 2]}, "lists"),
        ({"prompt": "p", "completion": "c", "score": 1.5}, "graded"),
        ({"prompt": "p", "completion": "a b", "spans": ["a", "b"], "relevance": [1, 2]}, "ranked spans"),
        ({"prompt": "p", "completion": "c"}, "answers without feedback"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "conversations"),
        ({"text": "t"}, "texts"),
        ({"prompt": "p"}, "prompts"),
    ],
)
def test_every_format_is_known_and_sound_rows_have_no_fault(inspected, row, form):
    found = inspected(row)
    assert found.form.startswith(form)
    assert found.sound
    assert found.faults == []


def test_repeated_and_contradictory_rows_are_counted(inspected):
    notes = inspected(GOOD, GOOD, {**GOOD, "label": False}).notes
    assert "1 rows repeat an earlier one (rows, from 0: 1)" in notes
    assert "1 rows contradict an earlier one on the same answers (rows, from 0: 2)" in notes
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    notes = inspected(pair, {"prompt": "p", "chosen": "b", "rejected": "a"}, pair).notes
    assert any("1 rows repeat" in note for note in notes)
    assert any("1 rows contradict" in note for note in notes)


def test_labels_are_counted_as_training_would_read_them(inspected):
    found = inspected({**GOOD, "label": "👍"}, {**GOOD, "label": "👎", "completion": "d"})
    assert found.labels == {"up": 1, "down": 1}
    assert any(note.startswith("labels are read so:") for note in found.notes)
    assert inspected({**GOOD, "label": "x"}, label_map={"x": False}).labels == {"down": 1}
