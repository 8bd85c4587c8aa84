"""A line of a file that grows carries a checksum: a changed one is never taken for an answer."""

import json

import pytest

from unveil.checksums import opened, sealed
from unveil.errors import UserInputWarning
from unveil.evaluation import RequestCache
from unveil.judging.answer_cache import AnswerCache, Reply

ROW = {"key": "k", "value": -1.5, "text": "caf\u00e9 \ud83d", "tokens": [1, 2]}


def changed(line: str):
    """Every digit and letter of the values of a JSON line as another one, one at a time."""
    for place, letter in enumerate(line):
        other = chr(ord(letter) ^ 1)
        try:
            row = json.loads(line[:place] + other + line[place + 1 :])
        except ValueError:
            continue
        yield place, row


def test_a_row_comes_back_as_it_was_and_no_change_of_it_passes():
    line = json.dumps(sealed(ROW))
    assert opened(json.loads(line)) == ROW
    assert opened(ROW) == ROW, "earlier versions wrote no checksum"
    tried = 0
    for _, row in changed(line):
        if "checksum" in row:
            tried += 1
            with pytest.raises(ValueError, match="not what was written"):
                opened(row)
    assert tried > 50


def test_a_changed_line_of_requests_is_computed_again(tmp_path):
    file = tmp_path / "requests.jsonl"
    RequestCache(file).add({"a": {"value": 11}, "b": {"value": 22}})
    file.write_text(file.read_text().replace("11", "12"))
    with pytest.warns(UserInputWarning, match="1 lines are damaged and are computed again"):
        cache = RequestCache(file)
    assert cache.get("a") is None
    assert cache.get("b") == {"value": 22}


def test_a_changed_reply_of_a_judge_is_passed_over(tmp_path):
    cache = AnswerCache(tmp_path / "cache.jsonl")
    cache.put("a", Reply("A is better", 3))
    cache.put("b", Reply("B is better", 3))
    cache.close()
    (tmp_path / "cache.jsonl").write_text((tmp_path / "cache.jsonl").read_text().replace("A is", "B is"))
    again = AnswerCache(tmp_path / "cache.jsonl")
    assert (again.get("a"), again.passed_over) == (None, 1)
    assert again.get("b") == Reply("B is better", 3)


def test_a_changed_answer_of_a_comparison_is_refused_by_its_line(unveil, base, tmp_path, quiet_transformers):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    asks = (
        "compare", "--model", base, "--against", base, "--dataset_name", tmp_path / "prompts.jsonl", "--judge",
        "regex:[a-e]+", "--gen_length", 4, "--output_dir", tmp_path / "out",
    )  # fmt: skip
    assert unveil(*asks).code == 0
    file = tmp_path / "out" / "answers.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[1].replace('"tokens": ', '"tokens": 1') + "".join(lines[2:]))
    code, _, err = unveil(*asks, "--resume")
    assert code == 2
    assert err.count("\n") == 1
    assert f"{file}, line 2: is no answer, or not the one that was written; " in err
    assert unveil(*asks, "--overwrite").code == 0
