"""Answers that were paid for are kept, under a name that nothing else has."""

import json

import pytest

from unveil.errors import UserInputWarning
from unveil.evaluation import RequestCache


@pytest.fixture
def file(tmp_path):
    return tmp_path / "deep" / "requests.jsonl"


def test_records_come_back_after_a_restart(file):
    cache = RequestCache(file, "model")
    key = cache.key("elbo", {"num_draws": 8}, (1, 2), (3,))
    assert cache.get(key) is None
    cache.add({key: {"value": -1.5}})
    again = RequestCache(file, "model")
    assert again.get(again.key("elbo", {"num_draws": 8}, (1, 2), (3,))) == {"value": -1.5}
    again.add({key: {"value": -9.0}})
    assert len(file.read_text().splitlines()) == 1


def test_kind_model_settings_and_content_are_parts_of_the_name():
    cache, other = RequestCache(identity="model"), RequestCache(identity="another")
    name = cache.key("elbo", {"num_draws": 8}, (1, 2), (3,))
    others = [
        cache.key("greedy", {"num_draws": 8}, (1, 2), (3,)),
        cache.key("elbo", {"num_draws": 9}, (1, 2), (3,)),
        cache.key("elbo", {"num_draws": 8}, (1,), (2, 3)),
        other.key("elbo", {"num_draws": 8}, (1, 2), (3,)),
    ]
    assert len({name, *others}) == 5


def test_a_torn_last_line_is_left_out_and_what_follows_is_whole(file):
    cache = RequestCache(file)
    cache.add({"a": {"value": 1}, "b": {"value": 2}})
    file.write_bytes(file.read_bytes()[:-6])
    again = RequestCache(file)
    assert again.get("a") == {"value": 1}
    assert again.get("b") is None
    again.add({"b": {"value": 2}})
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == ["a", "b"]


def test_damaged_lines_are_counted_and_passed_over(file):
    RequestCache(file).add({"a": {"value": 1}})
    with open(file, "a") as handle:
        handle.write("not json\n\n[1]\n")
    with pytest.warns(UserInputWarning, match="2 lines are damaged"):
        assert RequestCache(file).get("a") == {"value": 1}
