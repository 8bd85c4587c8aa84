"""The cache of answers: kept at once, torn lines tolerated, several writers."""

import json
import threading

import pytest

from unveil.errors import UserError
from unveil.judging.answer_cache import AnswerCache, Reply, content_key

REPLY = Reply("Verdict: A\nline \u2028 and \u00fc", 10, 2, "stop")


def test_a_reply_is_in_the_file_when_put_returns(tmp_path):
    path = tmp_path / "new" / "cache.jsonl"
    cache = AnswerCache(path)
    cache.put("k", REPLY)
    assert AnswerCache(path).get("k") == REPLY
    assert cache.get("other") is None
    assert len(path.read_bytes().splitlines()) == 1


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_last_line_loses_itself_only(tmp_path, cut):
    path = tmp_path / "cache.jsonl"
    cache = AnswerCache(path)
    cache.put("one", REPLY)
    cache.put("two", REPLY)
    cache.close()
    path.write_bytes(path.read_bytes()[:-cut])
    again = AnswerCache(path)
    whole = cut == 1  # only the line break is missing
    assert again.get("one") == REPLY
    assert again.get("two") == (REPLY if whole else None)
    assert again.passed_over == (0 if whole else 1)
    again.put("three", REPLY)
    third = AnswerCache(path)
    assert third.get("three") == REPLY
    assert third.passed_over == again.passed_over


def test_foreign_lines_are_passed_over_and_counted(tmp_path):
    path = tmp_path / "cache.jsonl"
    good = json.dumps({"key": "k", "text": "x"})
    path.write_text(f'[1]\n\n{{"a": 1}}\n{{"key": "z", "text": 3}}\nnull\nhello\n{good}\n')
    cache = AnswerCache(path)
    assert cache.get("k") == Reply("x")
    assert len(cache) == 1
    assert cache.passed_over == 5


def test_two_caches_on_one_file_mix_whole_lines(tmp_path):
    path = tmp_path / "cache.jsonl"
    caches = [AnswerCache(path), AnswerCache(path)]

    def fill(number):
        for place in range(100):
            caches[number % 2].put(f"{number} {place}", Reply("x" * 500))

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = AnswerCache(path)
    assert (len(whole), whole.passed_over) == (400, 0)


def test_without_a_path_it_lives_in_memory():
    cache = AnswerCache()
    cache.put("k", REPLY)
    assert cache.get("k") == REPLY


def test_a_key_depends_on_every_part_and_on_nothing_else():
    one = content_key(model="m", messages=[{"role": "user", "content": "\u00fc\ud800"}])
    assert one == content_key(messages=[{"content": "\u00fc\ud800", "role": "user"}], model="m")
    assert one != content_key(model="n", messages=[{"role": "user", "content": "\u00fc\ud800"}])
    assert len(one) == 32


def test_a_folder_is_no_cache(tmp_path):
    with pytest.raises(UserError, match=r"cannot be used as a cache \(Is a directory\)"):
        AnswerCache(tmp_path)
