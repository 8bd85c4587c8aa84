"""`load_rows`: every way to name a data set, and what is said when there is nothing to read."""

import csv
import json
import os
import time
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict
from datasets.exceptions import DatasetNotFoundError

from unveil.data import load_rows, unpaired_rows
from unveil.errors import UserError, UserInputWarning

ROWS = [
    {"prompt": "What is the capital of France?", "completion": "Paris.", "label": True},
    {"prompt": "What is the capital of France?", "completion": "42", "label": False},
]


def test_every_file_format_gives_the_same_rows(tmp_path, write_rows):
    parquet, table = tmp_path / "rows.parquet", tmp_path / "rows.csv"
    Dataset.from_list(ROWS).to_parquet(parquet)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "completion", "label"])
        writer.writeheader()
        writer.writerows({**row, "label": str(row["label"]).lower()} for row in ROWS)
    for path in (write_rows(ROWS), write_rows(ROWS, "rows.json"), parquet, table):
        assert list(load_rows(str(path))) == ROWS, path


@pytest.mark.parametrize("written", [("true", "false"), ("True", "False"), ("TRUE", "FALSE")])
def test_csv_booleans_are_booleans_and_number_like_text_stays_text(tmp_path, written):
    path = tmp_path / "rows.csv"
    path.write_text(f'prompt,completion,label\n1,"two\nlines, quoted",{written[0]}\n2,3,{written[1]}\n')
    assert list(load_rows(path)) == [
        {"prompt": "1", "completion": "two\nlines, quoted", "label": True},
        {"prompt": "2", "completion": "3", "label": False},
    ]


def test_csv_types_do_not_depend_on_where_in_a_long_file_a_value_stands(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("prompt,score\n" + f"{'long ' * 200},1\n" * 3000 + "last,high\n")
    assert load_rows(path)[-1] == {"prompt": "last", "score": "high"}


def test_json_lines_in_a_json_file_and_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "rows.json"
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(json.dumps(row) for row in ROWS).encode() + b"\n\n")
    assert list(load_rows(path)) == ROWS


def test_text_that_looks_like_a_date_or_has_odd_separators_is_kept(write_rows):
    rows = [{"prompt": "2024-01-01", "completion": "a\u2028b\x85c"}, {"prompt": "2024-01-02", "completion": "\r\n"}]
    assert list(load_rows(write_rows(rows))) == rows


def test_a_key_that_a_row_lacks_is_null_wherever_it_first_appears(write_rows):
    loaded = load_rows(write_rows([{"a": "x"}, {"b": "y"}]))
    assert list(loaded) == [{"a": "x", "b": None}, {"a": None, "b": "y"}]


def test_a_folder_has_one_split_per_file_name(tmp_path, write_rows):
    write_rows(ROWS, "folder/train-00000-of-00002.jsonl")
    write_rows(ROWS[:1], "folder/train-00001-of-00002.jsonl")
    write_rows(ROWS[1:], "folder/chosen.json")
    (tmp_path / "folder" / "README.md").write_text("about")
    folder = tmp_path / "folder"
    assert list(load_rows(folder)) == ROWS + ROWS[:1]
    assert list(load_rows(folder, split="chosen")) == ROWS[1:]
    with pytest.raises(UserError, match=r"--dataset_name .*folder: no split 'valid'; choose from chosen, train"):
        load_rows(folder, split="valid")


def test_a_folder_may_keep_its_files_in_data_or_in_a_configuration(tmp_path, write_rows):
    write_rows(ROWS, "hub/data/train.jsonl")
    write_rows(ROWS[:1], "hub/small/train.jsonl")
    assert len(load_rows(tmp_path / "hub")) == 2
    assert len(load_rows(tmp_path / "hub", config="small")) == 1
    with pytest.raises(UserError, match="no subfolder 'large'"):
        load_rows(tmp_path / "hub", config="large")


def test_a_folder_saved_by_datasets_is_read_back(tmp_path):
    DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}).save_to_disk(tmp_path / "both")
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    assert len(load_rows(tmp_path / "both", split="test")) == 1
    assert list(load_rows(tmp_path / "one")) == ROWS


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train[:1]", [0]), ("train[50%:]", [1]), ("train[1:]+train[:1]", [1, 0]), ("train", [0, 1])],
)
def test_splits_are_sliced_as_everywhere_in_datasets(write_rows, split, expected):
    assert list(load_rows(write_rows(ROWS), split=split)) == [ROWS[row] for row in expected]


def test_a_dataset_passes_through_and_a_dataset_dict_gives_its_split():
    rows = Dataset.from_list(ROWS)
    assert load_rows(rows) is rows
    assert load_rows(DatasetDict({"train": rows, "test": rows.select([0])}), split="test")[0] == ROWS[0]
    with pytest.raises(UserError, match=r"no split 'valid'; choose from train"):
        load_rows(DatasetDict({"train": rows}), split="valid")


@pytest.mark.parametrize("name", ["missing.jsonl", "./missing", "/nowhere/at/all", "a/b/c"])
def test_a_missing_file_is_said_to_be_missing_without_asking_the_hub(monkeypatch, name):
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: pytest.fail("asked the hub"))
    with pytest.raises(UserError, match=rf"--train_file {name}: there is no such file or folder"):
        load_rows(name, flag="--train_file")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"x", r"a\.txt: unknown file type \.txt; use one of \.jsonl, \.json, \.parquet, \.csv"),
        ("a.jsonl", b'{"a": 1}\n\n{"a": \n', r"a\.jsonl, line 3: broken JSON"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', r"a\.jsonl, line 2: \[1\] \(list\) is not a JSON object"),
        ("a.jsonl", b'{"a": "\xff"}\n', r"a\.jsonl, line 1: not UTF-8 text"),
        ("a.jsonl", b"", r"a\.jsonl: the file is empty"),
        ("a.jsonl", b"\n\n", r"a\.jsonl: the file has no rows"),
        ("a.json", b'[{"a": 1},\n {"a" 2}]', r"a\.json: broken JSON .*line 2 column"),
        ("a.json", b"[1]", r"a\.json, row 0: 1 \(int\) is not a JSON object"),
        ("a.json", b"[]", r"a\.json: the file has no rows"),
        ("a.csv", b"a,b\n1\n", r"a\.csv: not a readable CSV file .*Row #2"),
        ("a.csv", b"a,b\n", r"a\.csv: the file has no rows"),
        ("a.csv", b"prompt\n\xff\n", r"a\.csv: not a readable CSV file"),
        ("a.parquet", b"PAR1 and nothing", r"a\.parquet: not a readable parquet file"),
    ],
)
def test_a_broken_file_is_named_with_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_rows(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("odd", [1, "true", None, [True]])
def test_mixed_types_in_a_column_that_is_used_name_the_first_odd_row(write_rows, odd):
    path = write_rows([{"label": True}] * 40 + [{"label": odd}] + [{"label": "x"}] * 3)
    row = 40 if odd is not None else 41
    with pytest.raises(UserError, match=rf"rows\.jsonl, row {row} .*column 'label' holds"):
        load_rows(path)


def test_mixed_types_in_another_column_leave_that_column_out_with_a_warning(write_rows):
    path = write_rows([{"prompt": "a", "meta": 1}, {"prompt": "b", "meta": {"x": 1}}])
    with pytest.warns(UserInputWarning, match=r"row 1 .*column 'meta' holds \{'x': 1\} \(dict\).*left out"):
        rows = load_rows(path)
    assert rows.column_names == ["prompt"]


def test_broken_characters_in_json_name_their_row(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "fine"}\n{"prompt": "\\ud800"}\n')
    with pytest.raises(UserError, match=r"row 1 .*column 'prompt' holds '\\ud800'"):
        load_rows(tmp_path / "a.jsonl")


def test_shards_with_different_types_are_refused(tmp_path, write_rows):
    write_rows([{"label": True}], "f/train-00000-of-00002.jsonl")
    write_rows([{"label": "x"}], "f/train-00001-of-00002.jsonl")
    with pytest.raises(
        UserError, match=r"train-00000-of-00002\.jsonl, train-00001-of-00002\.jsonl do not make one table"
    ):
        load_rows(tmp_path / "f")


def test_an_empty_slice_an_empty_folder_and_a_wrong_type_are_refused(tmp_path, write_rows):
    with pytest.raises(UserError, match=r"split 'train\[5:3\]' has no rows"):
        load_rows(write_rows(ROWS), split="train[5:3]")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="in this folder; give one file per split"):
        load_rows(tmp_path / "empty")
    with pytest.raises(UserError, match="a dict is not a data set"):
        load_rows({"prompt": []})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="a file has no configuration 'x'"):
        load_rows(write_rows(ROWS), config="x")
    with pytest.raises(UserError, match=r"no split 'test'; choose from train"):
        load_rows(write_rows(ROWS), split="test")


def test_an_unreachable_hub_is_said_to_be_unreachable():
    with pytest.raises(UserError, match=r"--dataset_name no-such-owner/rows: the hub cannot be reached"):
        load_rows("no-such-owner/rows")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DatasetNotFoundError("gone"), "no such data set on the hub, and no file or folder of that name"),
        (ValueError("Unknown split \"x\". Should be one of ['train'].\nmore"), r"Should be one of \['train'\]"),
        (RuntimeError(), "cannot be loaded .RuntimeError."),
    ],
)
def test_what_the_hub_answers_becomes_one_line(monkeypatch, error, message):
    def refuse(name: str, config: str | None, split: str) -> Dataset:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=message) as caught:
        load_rows("owner/rows")
    assert "\n" not in str(caught.value)


def test_the_hub_gets_name_configuration_and_split(monkeypatch):
    asked = []

    def answer(name: str, config: str | None, split: str) -> Dataset:
        asked.append((name, config, split))
        return Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", answer)
    assert list(load_rows("owner/rows", split="train[:2]", config="small")) == ROWS
    assert asked == [("owner/rows", "small", "train[:2]")]


def test_what_is_on_disk_wins_over_the_hub(tmp_path, write_rows, monkeypatch):
    write_rows(ROWS, "owner/rows/train.jsonl")
    monkeypatch.chdir(tmp_path)
    assert list(load_rows("owner/rows")) == ROWS


def test_a_changed_file_is_read_anew_and_equal_content_has_equal_fingerprints(write_rows):
    path = write_rows(ROWS)
    first = load_rows(path)
    stamp = path.stat().st_mtime_ns
    write_rows([{**ROWS[0], "prompt": "What is the capital of Latvia"}, ROWS[1]])
    os.utime(path, ns=(stamp, stamp))
    second = load_rows(path)
    copy = load_rows(write_rows(ROWS, "copy.jsonl"))
    assert second[0]["prompt"].endswith("Latvia")
    assert first._fingerprint == copy._fingerprint != second._fingerprint
    assert first.cache_files == []


def test_later_steps_on_loaded_rows_write_no_cache_either(write_rows, tmp_path):
    rows = unpaired_rows(load_rows(write_rows(ROWS)), "rows.jsonl")
    before = set(tmp_path.rglob("*"))
    mapped = rows.map(lambda row: {"length": len(row["completion"])}).filter(lambda row: row["length"] > 0)
    assert mapped.cache_files == []
    assert set(tmp_path.rglob("*")) == before


def test_twenty_thousand_rows_load_within_seconds(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"prompt": [{"role": "user", "content": "word " * 60}], "completion": "word " * 100, "label": True}
    path.write_text((json.dumps(row) + "\n" + json.dumps({**row, "label": False}) + "\n") * 10_000)
    start = time.perf_counter()
    rows = unpaired_rows(load_rows(Path(path)), "rows.jsonl")
    assert len(rows) == 20_000
    assert time.perf_counter() - start < 20
