"""`--judge` and its flags: every kind of judge by name, and one line for what cannot be loaded."""

import json
import sys
from dataclasses import fields

import pytest

from unveil.cli.judges import _READS, JudgeArguments, cache_file, data_columns, flag_of, load_judge
from unveil.cli.options import HeldOutArguments
from unveil.cli.parser import parse
from unveil.cli.prompting import read_prompts
from unveil.errors import UserError
from unveil.judging.panel import Panel

MODULE = """
def length(prompts, completions, **columns):
    return [float(len(text)) for text in completions]

class Own:
    name, symmetric = "own", True
    def compare(self, prompts, a, b):
        return []

number = 3
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    (tmp_path / "flag_judges.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "flag_judges", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "key")


@pytest.mark.parametrize(
    ("name", "shown", "symmetric", "reads"),
    [
        ("human_ratings", "human ratings", True, False),
        ("exact", "exact answer", True, True),
        ("numeric", "numeric", True, True),
        ("regex", "regex", True, True),
        ("regex:^a:b$", "regex ^a:b$", True, False),
        ("unit_tests", "unit tests", True, True),
        ("reward:flag_judges:length", "length", True, True),
        ("flag_judges:Own", "own", True, False),
    ],
)
def test_every_kind_has_a_name(name, shown, symmetric, reads):
    judge = load_judge(name)
    assert (judge.name, judge.symmetric, getattr(judge, "reads_columns", False)) == (shown, symmetric, reads)


def test_flags_reach_an_endpoint_judge(tmp_path):
    pytest.importorskip("openai")
    flags: dict[str, object] = {
        "judge": "openai", "judge_model": "org/some-model", "judge_base_url": "http://127.0.0.1:9/v1/",
        "judge_max_tokens": 7, "judge_temperature": 0.5, "judge_concurrency": 3, "judge_tries": 2,
        "judge_price_in": 1, "judge_price_out": 2,
    }  # fmt: skip
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    (arguments,) = parse((JudgeArguments,), words, "unveil compare", "x")
    judge = arguments.load()
    assert (judge.name, judge.concurrency, judge.symmetric) == ("org/some-model", 3, False)
    assert judge.endpoint.base_url == "http://127.0.0.1:9/v1"
    assert judge.endpoint.sampling.parameters() == {"temperature": 0.5, "max_tokens": 7}
    assert judge.endpoint.backoff.tries == 2
    assert judge.usage.cost == 0
    assert (
        judge.cache.path == cache_file("org/some-model") == tmp_path / "user_cache/unveil/judging/org-some-model.jsonl"
    )
    assert load_judge("openai:gpt-x:free").name == "gpt-x:free"


def test_several_are_a_panel_or_stay_apart():
    arguments = JudgeArguments(judge=["exact", "numeric"], judge_vote="mean")
    panel = arguments.load()
    assert isinstance(panel, Panel)
    assert (panel.name, panel.vote) == ("panel of exact answer, numeric", "mean")
    assert [judge.name for judge in arguments.load_all()] == ["exact answer", "numeric"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--judge: is missing; give human_ratings, openai:MODEL"),
        ({"judge": ["exact", "exact"]}, "--judge exact: is named more than once"),
        ({"judge": ["exact", "numeric"], "judge_vote": "x"}, "--judge_vote x: unknown"),
        ({"judge": ["nobody"]}, "--judge nobody: unknown; give human_ratings, openai:MODEL"),
        ({"judge": ["openai"]}, "--judge openai: which model"),
        ({"judge": ["openai:m"], "judge_price_in": 1.0}, "give both or neither"),
        ({"judge": ["openai:m"], "judge_price_in": -1.0, "judge_price_out": 1.0}, "give 0 or more per million"),
        ({"judge": ["openai:m"], "judge_concurrency": 0}, "--judge_concurrency 0"),
        ({"judge": ["openai:m"], "judge_max_tokens": 0}, "--judge_max_tokens 0"),
        ({"judge": ["openai:m"], "judge_tries": 0}, "--judge_tries 0"),
        ({"judge": ["openai:m"], "judge_timeout": 0.0}, "--judge_timeout 0"),
        ({"judge": ["openai:m"], "judge_base_url": "localhost:1"}, "--judge_base_url localhost:1: must begin with"),
        ({"judge": ["openai:m"], "judge_template": "missing.txt"}, "--judge_template missing.txt: cannot be read"),
        ({"judge": ["hf"]}, "--judge hf: which model"),
        ({"judge": ["hf:./no-such-folder"]}, "--judge hf:./no-such-folder: cannot be loaded"),
        ({"judge": ["regex:("]}, r"'\(' is no regular expression"),
        ({"judge": ["reward:flag_judges"]}, "give reward:module:function"),
        ({"judge": ["reward:flag_judges:number"]}, "a int cannot be called"),
        ({"judge": ["reward:flag_judges:missing"]}, "has no attribute 'missing'"),
        ({"judge": ["numeric"], "judge_tolerance": -1.0}, "--judge_tolerance -1"),
        ({"judge": ["unit_tests"], "judge_seconds": 0.0}, "--judge_seconds 0.0: must be positive"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(settings, message):
    if "openai:m" in settings.get("judge", []):
        pytest.importorskip("openai")
    with pytest.raises(UserError, match=message) as error:
        JudgeArguments(**settings).load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "unread", "names"),
    [
        ({"judge": ["exact"], "judge_template": "nofile", "judge_model": "foo"}, "judge_model", "exact"),
        ({"judge": ["exact"], "judge_template": "nofile"}, "judge_template", "exact"),
        ({"judge": ["exact", "numeric"], "judge_seconds": 3.0}, "judge_seconds", "exact, numeric"),
        ({"judge": ["regex:x"], "judge_reference": "answer"}, "judge_reference", "regex:x"),
        ({"judge": ["openai:m"], "judge_model": "n"}, "judge_model", "openai:m"),
        ({"judge": ["flag_judges:Own"], "judge_seed": 0}, "judge_seed", "flag_judges:Own"),
        ({"judge": ["exact"], "judge_vote": "mean"}, "judge_vote", "exact"),
    ],
)
def test_a_flag_that_no_judge_reads_is_refused(settings, unread, names):
    with pytest.raises(UserError) as error:
        JudgeArguments(**settings).require_read()
    assert str(error.value) == f"--{unread}: none of the judges {names} reads it; leave it out"


@pytest.mark.parametrize(
    "settings",
    [
        {"judge": ["openai"], "judge_model": "m", "judge_seed": 1, "judge_template": "x", "judge_cache": "y"},
        {"judge": ["hf:m", "numeric"], "judge_dtype": "float32", "judge_tolerance": 0.1, "judge_vote": "mean"},
        {"judge": ["unit_tests"], "judge_memory": 99, "judge_reference": "x"},
        {"judge": ["reward:flag_judges:length"], "judge_tie_margin": 1.0},
        {"judge": ["exat"], "judge_reference": "x"},  # that there is no such judge is the better message
    ],
)
def test_a_flag_that_some_judge_reads_is_taken(settings):
    JudgeArguments(**settings).require_read()


def test_a_flag_in_the_table_is_a_flag():
    assert {flag_of(each) for flags in _READS.values() for each in flags} == {
        each.name for each in fields(JudgeArguments) if each.name not in ("judge", "judge_vote")
    }


@pytest.mark.parametrize(("flag", "value"), [("judge_seconds", -1.0), ("judge_seconds", 0.0), ("judge_memory", 1)])
def test_limits_of_the_sandbox_are_told_by_their_flags(flag, value):
    settings: dict[str, object] = {"judge": ["unit_tests"], flag: value}
    with pytest.raises(UserError, match=f"^--{flag} {value}: "):
        JudgeArguments(**settings).load()  # type: ignore[arg-type]


def test_without_the_client_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(
        UserError,
        match=r"an endpoint needs the openai client; in the repository, `pip install -c constraints.txt '\.\[judge\]'`",
    ):
        load_judge("openai:m")


def test_help_names_every_judge(capsys):
    with pytest.raises(SystemExit):
        parse((JudgeArguments,), ["--help"], "unveil compare", "x")
    out = capsys.readouterr().out
    for word in ("human_ratings", "openai:MODEL", "unit_tests", "--judge_price_in FLOAT", "OPENAI_API_KEY"):
        assert word in out


def test_columns_of_the_data_come_row_by_row(tmp_path):
    rows = [{"prompt": f"p{n}", "answer": n, "kind": "x"} for n in range(5)]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = HeldOutArguments(dataset_name=str(path), column_map=["kind=reference"], max_samples=3)
    prompts, _ = read_prompts(data, None, False)
    assert data_columns(load_judge("exact"), data, prompts) == {"answer": [0, 1, 2], "reference": ["x"] * 3}
    assert data_columns(load_judge("flag_judges:Own"), data, prompts) is None


@pytest.fixture
def compare(unveil, base, tmp_path):
    """`unveil compare` of a model with itself under other settings, on prompts with a reference."""
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p{n}", "answer": "x"}) + "\n" for n in range(3)))

    def run(*words):
        return unveil(
            "compare", "--model", base, "--against", base, "--dataset_name", path, "--gen_length", 8,
            "--temperature", 1, "--null", *words,
        )  # fmt: skip

    return run


def test_compare_gives_a_verifier_its_column(compare, tmp_path):
    result = compare("--judge", "exact", "--output_dir", tmp_path / "result")
    assert (result.code, result.err) == (0, "")
    assert "exact answer: win rate 0.500" in result.out
    missing = compare("--judge", "exact", "--judge_reference", "no_such_column")
    assert missing.code == 2
    assert "judge exact: needs the column no_such_column, there is answer; name yours with --judge_ref" in missing.err
    assert missing.err.count("\n") == 1


def test_compare_refuses_flags_that_its_judges_do_not_read(compare):
    result = compare("--judge", "exact", "--judge_template", "nofile", "--judge_temperature", 0.5)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "--judge_template: none of the judges exact reads it; leave it out" in result.err


def test_compare_tells_an_unreachable_endpoint_in_one_line(compare):
    pytest.importorskip("openai")
    result = compare("--judge", "openai:m", "--judge_base_url", "http://127.0.0.1:9/v1", "--judge_tries", 1)
    assert result.code == 2
    assert "unveil compare: error: judge m: http://127.0.0.1:9/v1 cannot be reached" in result.err
    assert result.err.count("\n") == 1
