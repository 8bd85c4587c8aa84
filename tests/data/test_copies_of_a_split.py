"""A split is one file or one whole set of shards; anything else in a folder is refused by name."""

import pytest

from unveil.data import load_rows
from unveil.errors import UserError

ROWS = [{"prompt": "p", "completion": "c"}]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.jsonl", "train.json"], r"more than once \('f/train.json', 'f/train.jsonl'\); keep one"),
        (["train.jsonl", "train-00000-of-00001.jsonl"], "more than once"),
        (["train.jsonl", "train-00000-of-00002.json", "train-00001-of-00002.json"], "more than once"),
        (["train-00000-of-00001.jsonl", "train-00000-of-00001.json"], "more than once"),
        (["train-00000-of-00001.jsonl", "train-00000-of-00001-0123456789abcdef.jsonl"], "more than once"),
        (["train-00000-of-00002.jsonl", "train-00001-of-00003.jsonl"], "more than once"),
        (["train.jsonl", "data/train.jsonl"], "more than once"),
        (["train-00000-of-00002.jsonl"], r"has 1 of 2 shards, without number 1 \(from 0\)"),
        (["train-00000-of-00004.jsonl", "train-00002-of-00004.jsonl"], "has 2 of 4 shards, without number 1, 3"),
    ],
)
def test_two_copies_or_a_missing_shard_are_refused_by_name(names, message, write_rows, tmp_path):
    for name in [*names, "test.jsonl"]:
        write_rows(ROWS, f"f/{name}")
    with pytest.raises(UserError, match=message):
        load_rows(tmp_path / "f")
    assert len(load_rows(tmp_path / "f", split="test")) == 1


def test_whole_sets_of_shards_are_read_in_order(write_rows, tmp_path):
    for number in range(3):
        write_rows([{"prompt": f"p{number}"}], f"f/train-0000{number}-of-00003-0123456789abcdef.jsonl")
    assert load_rows(tmp_path / "f")["prompt"][:] == ["p0", "p1", "p2"]


@pytest.mark.parametrize(
    ("split", "rows"),
    [
        (None, range(24)), ("train", range(24)), ("train[:50%]", range(12)), ("train[90%:]", range(22, 24)),
        ("train[10:20]", range(10, 20)), ("train[:5]+train[-5:]", [*range(5), *range(19, 24)]), ("rows", range(24)),
        ("rows[:2]", range(2)),
    ],
)  # fmt: skip
def test_parts_of_a_single_file_are_what_they_say(split, rows, write_rows):
    path = write_rows([{"prompt": f"p{i}"} for i in range(24)])
    assert load_rows(path, split)["prompt"][:] == [f"p{i}" for i in rows]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("validation", "no split 'validation'; choose from train"),
        ("test[:2]", "no split 'test'; choose from train"),
        ("train+test", "no split 'test'; choose from train"),
        ("train[a:b]", "cannot be taken"),
        ("train[:5", "cannot be taken"),
    ],
)
def test_a_split_that_is_not_there_is_refused_with_those_that_are(split, message, write_rows):
    with pytest.raises(UserError, match=message) as caught:
        load_rows(write_rows([{"prompt": f"p{i}"} for i in range(24)]), split)
    assert "\n" not in str(caught.value)
