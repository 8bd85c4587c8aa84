"""Files that cannot be read as they are: one line each, and `--on_bad_rows drop` leaves out the rows at fault."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from unveil.data import load_rows, prompt_rows, sft_rows, unpaired_rows
from unveil.errors import UserError, UserInputWarning

ROW = '{"prompt": "p", "completion": "c", "label": true}\n'
OTHER = '{"prompt": "p", "completion": "d", "label": false}\n'
DAMAGE = {
    "nested too deeply": '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}\n",
    "nested deeply": '{"prompt": "p", "completion": "c", "label": true, "meta": ' + "[" * 500 + "]" * 500 + "}\n",
    "a number of thousands of digits": '{"prompt": "p", "completion": "c", "label": ' + "9" * 5000 + "}\n",
    "a number of 30 digits": '{"prompt": "p", "completion": 1, "label": ' + "9" * 30 + "}\n",
    "half a character in a value": '{"prompt": "p", "completion": "\\ud83d", "label": true}\n',
    "half a character in a message": '{"prompt": [{"role": "user", "content": "\\udc00"}], "completion": "c"}\n',
    "bytes that are no text": '{"prompt": "p", "completion": "\udcff", "label": true}\n',
    "a line that is cut": '{"prompt": "p", "compl\n',
    "another type": '{"prompt": 5, "completion": ["c"], "label": true}\n',
    "no object": "[1, 2]\n",
    "a null label": '{"prompt": "p", "completion": "c", "label": null}\n',
    "a label that is not a number": '{"prompt": "p", "completion": "c", "label": NaN}\n',
}


def written(tmp_path: Path, text: str, name: str = "rows.jsonl") -> Path:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    return tmp_path / name


@pytest.mark.parametrize("case", DAMAGE)
def test_a_row_that_cannot_be_read_is_one_line_or_left_out(case, tmp_path):
    path = written(tmp_path, ROW + OTHER + DAMAGE[case] + ROW.replace('"c"', '"e"'))
    with pytest.raises(UserError, match=r"--on_bad_rows drop") as caught:
        unpaired_rows(load_rows(path), str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    with pytest.warns(UserInputWarning, match="1 of 4 rows cannot be used") as said:
        rows = unpaired_rows(load_rows(path, on_bad_rows="drop"), str(path), on_bad_rows="drop")
    assert len(said) == 1
    assert rows["example_id"][:] == [0, 1, 3]
    assert rows["completion"][:] == ["c", "d", "e"]


@pytest.mark.parametrize("name", ["\\ud800", "x\\udfff"])
def test_a_column_whose_name_is_no_text_is_left_out(name, tmp_path):
    path = written(tmp_path, ROW.replace("{", f'{{"{name}": 1, ') + OTHER)
    with pytest.warns(UserInputWarning, match="has a name that is no text; it is left out"):
        assert load_rows(path).column_names == ["prompt", "completion", "label"]


def test_a_file_without_any_row_that_can_be_read_is_refused_with_drop_too(tmp_path):
    with pytest.raises(UserError, match="line 1: broken JSON"):
        load_rows(written(tmp_path, "x\ny\n"), on_bad_rows="drop")


@pytest.mark.parametrize(("separator", "called"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_other_separators_are_named(separator, called, tmp_path):
    text = "prompt,completion,label\nfilm:, smart, moving,True\n".replace(",", separator).replace(
        f"smart{separator}", "smart,"
    )
    with pytest.raises(UserError, match=f"columns are parted by {called}, not by commas"):
        load_rows(written(tmp_path, text, "rows.csv"))


def test_a_csv_file_in_another_encoding_is_said_to_be_no_utf8_and_its_rows_can_be_left_out(tmp_path):
    (tmp_path / "a.csv").write_bytes(
        "prompt,completion,label\nfilm:, café,True\nfilm:, dull,False\nfilm:, fun,True\n".encode("cp1252")
    )
    with pytest.raises(UserError, match=r"not UTF-8 text \(line 2, byte 0xe9\); save the file as UTF-8"):
        load_rows(tmp_path / "a.csv")
    with pytest.warns(UserInputWarning, match="1 of 3 rows cannot be used: the line is not UTF-8 text"):
        rows = unpaired_rows(load_rows(tmp_path / "a.csv", on_bad_rows="drop"), "f", on_bad_rows="drop")
    assert rows["completion"][:] == [" dull", " fun"]


def test_whole_columns_in_one_object_are_recognised_in_few_words(tmp_path):
    columns = {name: {str(i): "x" for i in range(3000)} for name in ("prompt", "completion", "label")}
    for name in ("a.json", "a.jsonl"):
        with pytest.raises(UserError, match=r"holds whole columns.*orient='records'") as caught:
            load_rows(written(tmp_path, json.dumps(columns), name))
        assert len(str(caught.value)) < 400


def test_parquet_with_broken_text_and_broken_saved_folders_are_one_line(tmp_path):
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    pyarrow.parquet.write_table(pa.table({"prompt": broken}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="not a readable parquet file"):
        load_rows(tmp_path / "a.parquet")
    for mark in ("state.json", "dataset_dict.json"):
        (tmp_path / mark[0]).mkdir()
        (tmp_path / mark[0] / mark).write_text("x")
        with pytest.raises(UserError, match=f"has a {mark}, as a folder of Dataset.save_to_disk has") as caught:
            load_rows(tmp_path / mark[0])
        assert "\n" not in str(caught.value)


def test_text_parts_are_joined_and_other_parts_are_refused(write_rows):
    def parts(*texts: str) -> list[dict]:
        return [{"type": "text", "text": text} for text in texts]

    user, assistant = {"role": "user", "content": parts("a ", "b")}, {"role": "assistant", "content": parts("c", "d")}
    plain = [{"role": "user", "content": "e"}, {"role": "assistant", "content": "f"}]
    rows = sft_rows(load_rows(write_rows([{"messages": [user, assistant]}, {"messages": plain}])), "f")
    assert rows["prompt"][0] == [{"role": "user", "content": "a b"}]
    assert rows["completion"][:] == ["cd", "f"]
    image = {"role": "user", "content": [{"type": "image_url", "image_url": "x"}, *parts("a")]}
    for bad, told in ((image, "part of the type 'image_url'"), ({"role": "user", "content": 5}, "neither text nor")):
        with pytest.raises(UserError, match=f"1 of 1 rows cannot be used: .*{told}") as caught:
            prompt_rows(load_rows(write_rows([{"prompt": [bad]}])), "f")
        assert "\n" not in str(caught.value)
