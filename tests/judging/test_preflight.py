"""`unveil compare` finds out that its judges cannot judge before it loads a model."""

import json

import pytest
from scripted_endpoint import KEY, MODEL, judge_of

from unveil.cli import compare as command
from unveil.errors import UserError
from unveil.judging.answer_cache import AnswerCache, Reply

pytestmark = pytest.mark.usefixtures("api_key")


@pytest.fixture
def compare(unveil, base, tmp_path, monkeypatch):
    """`unveil compare` on three prompts with a reference, but for the last; `loaded` tells how many models it read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))
    rows = [{"prompt": f"p{n}", "answer": "x", "often": "7" if n < 2 else None} for n in range(3)]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    real = command.load_for_use

    def run(*words):
        run.loaded = 0
        return unveil(
            "compare", "--model", base, "--against", base, "--dataset_name", path, "--gen_length", 8,
            "--temperature", 1, "--judge_tries", 1, "--null", *words,
        )  # fmt: skip

    def load(*arguments):
        run.loaded += 1
        return real(*arguments)

    monkeypatch.setattr(command, "load_for_use", load)
    return run


@pytest.fixture
def verifier(compare):
    def run(*words):
        return compare(*words, "--judge_tries", 6)  # the default, which a verifier does not have to read

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["exact", "--judge_reference", "no_such"], "judge exact: needs the column no_such, there is answer, often; "),
        (["exact", "--judge_reference", "often"], "judge exact: needs the column often, there is answer, often; "),
        (["unit_tests"], "judge unit_tests: needs the column tests or test or test_list, there is answer, often; "),
        (["json_schema"], "judge json_schema: needs the column schema or json_schema"),
        (["numeric"], "judge numeric: the reference 'x' holds no number"),
    ],
)
def test_a_missing_column_is_told_before_a_model_is_loaded(verifier, compare, words, message):
    if words[0] == "json_schema":
        pytest.importorskip("jsonschema")
    code, _, err = verifier("--judge", *words)
    assert (code, err.count("\n"), compare.loaded) == (2, 1, 0)
    assert message in err


def test_a_row_that_may_be_dropped_needs_no_column_yet(verifier, compare):
    words = ("--judge", "exact", "--on_bad_rows", "drop", "--judge_reference")
    assert verifier(*words, "often").code == 2
    assert compare.loaded == 2
    assert verifier(*words, "no_such").code == 2
    assert compare.loaded == 0


def test_a_column_of_a_template_is_told_before_a_model_is_loaded(compare, server, tmp_path):
    pytest.importorskip("openai")
    (tmp_path / "t.txt").write_text("{{prompt}} {{answer_a}} {{answer_b}} {{no_such}}")
    words = ("--judge", f"openai:{MODEL}", "--judge_base_url", server.url, "--judge_template", tmp_path / "t.txt")
    code, _, err = compare(*words)
    assert (code, err.count("\n"), compare.loaded, server.listed) == (2, 1, 0, 0)
    assert "{{no_such}} is no column of the data" in err


@pytest.mark.parametrize(
    ("url", "key", "message"),
    [
        ("http://127.0.0.1:9/v1", KEY, f"judge {MODEL}: http://127.0.0.1:9/v1 cannot be reached"),
        (None, "another", "answered 401 (Incorrect API key provided); check OPENAI_API_KEY"),
    ],
)
def test_an_endpoint_out_of_reach_is_told_before_a_model_is_loaded(compare, server, monkeypatch, url, key, message):
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", key)
    code, _, err = compare("--judge", f"openai:{MODEL}", "--judge_base_url", url or server.url)
    assert (code, err.count("\n"), compare.loaded, server.asked) == (2, 1, 0, [])
    assert message in err


@pytest.mark.parametrize(
    "lists", [(200, ""), (404, "Not Found"), (405, "no"), (500, "busy"), (429, "slow"), (403, "Missing scopes: models")]
)
def test_other_replies_prove_nothing(server, lists):
    pytest.importorskip("openai")
    server.lists = lists
    judge_of(server).check_in()
    assert (server.listed, server.asked) == (1, [])


def test_a_refused_key_is_told_as_a_question_would(server):
    pytest.importorskip("openai")
    server.lists = (403, "no")
    with pytest.raises(UserError, match=rf"judge {MODEL}: {server.url} answered 403 \(no\); check OPENAI_API_KEY"):
        judge_of(server).check_in()


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_a_comparison_whose_replies_are_kept_needs_no_endpoint(compare, server, tmp_path):
    pytest.importorskip("openai")
    words = ("--judge", f"openai:{MODEL}", "--judge_base_url", server.url, "--output_dir")
    assert compare(*words, tmp_path / "first").code == 0
    asked = len(server.asked)
    assert asked > 0
    server.lists = (401, "no such key")
    code, _, err = compare(*words, tmp_path / "second")
    assert (code, len(server.asked)) == (0, asked)
    assert f"warning: judge {MODEL}: {server.url} answered 401 (no such key)" in err
    assert f"(going on with the {asked} answers kept in {tmp_path / 'user_cache'}" in err
    first, second = ((tmp_path / name / "comparisons.jsonl").read_text() for name in ("first", "second"))
    assert first == second


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_nobody_there_is_a_warning_for_whoever_has_replies(server):
    pytest.importorskip("openai")
    cache = AnswerCache()
    away = judge_of(server, cache, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match=r"cannot be reached \(.*\) \(3 attempts\); is it running\?"):
        away.check_in()
    cache.put("a question", Reply("an answer"))
    with pytest.warns(UserWarning, match="going on with the 1 answers kept"):
        away.check_in()
