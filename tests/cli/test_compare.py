"""`unveil compare`: the same prompts, settings and seeds for both models, and a judge in between."""

import json
import sys
from pathlib import Path

import pytest
from command_files import edited, read_rows, write_rows

from unveil.cli.judges import load_judge
from unveil.errors import UserError

JUDGES = """
from unveil.judging import Verdict

class Fewer:
    name, symmetric = "fewer letters e", True
    def compare(self, prompts, a, b):
        more = [x.count("e") - y.count("e") for x, y in zip(a, b)]
        return [Verdict("A" if n < 0 else "B" if n > 0 else "tie") for n in more]

class First:
    name, symmetric = "always the first", False
    def compare(self, prompts, a, b):
        return [Verdict("A", "it came first")] * len(prompts)

fewer = Fewer()
first = First

def broken():
    raise RuntimeError("out of\\norder")

number = 3
def a_number():
    return 3
"""


@pytest.fixture(autouse=True)
def _judges(tmp_path, monkeypatch):
    (tmp_path / "my_judges.py").write_text(JUDGES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "my_judges", raising=False)


@pytest.fixture
def other(base, tmp_path) -> str:
    return edited(base, lambda tensors: [t.mul_(1.5) for t in tensors.values()], tmp_path / "other")


@pytest.fixture
def compare(unveil, base, other, thumbs):
    def run(*words):
        return unveil(
            "compare", "--model", other, "--against", base, "--dataset_name", thumbs, "--judge", "my_judges:fewer",
            "--gen_length", 8, "--temperature", 1, *words,
        )  # fmt: skip

    return run


def test_win_rate_is_printed_and_written(compare, base, other, tmp_path):
    code, out, err = compare("--null", "--num_samples", 2, "--output_dir", tmp_path / "result")
    assert (code, err) == (0, "")
    assert f"A: {other}" in out
    assert f"B: {base}" in out
    summary = json.loads((tmp_path / "result" / "compare.json").read_text())
    rows = read_rows(tmp_path / "result" / "comparisons.jsonl")
    assert len(rows) == 24
    outcome = {"A": 1.0, "tie": 0.5, "B": 0.0}
    rate = sum(outcome[row["winner"]] for row in rows) / 24
    assert summary["results"]["adjusted_win_rate"] == pytest.approx(rate)
    low, high = summary["results"]["interval"]
    assert low <= rate <= high
    assert f"{rate:.3f}" in out
    assert summary["comparison"]["win_rate"]["n"] == 12, "two samples of a prompt are one unit"
    assert summary["results"]["null_win_rate"] is not None
    assert {(row["example_id"], row["seed"]) for row in rows} == {(i, s) for i in range(12) for s in (0, 1)}
    null = read_rows(tmp_path / "result" / "null_comparisons.jsonl")
    assert any(row["answer_a"] != row["answer_b"] for row in null)
    assert summary["generation"]["temperature"] == 1.0
    assert summary["versions"]["unveil"]


def test_a_model_against_itself_ties_everywhere(compare, other):
    """The same seeds give the same answers."""
    out = compare("--against", other).out
    assert "win rate 0.500" in out
    assert "0 wins, 12 ties, 0 losses" in out


def test_a_judge_that_likes_the_first_answer_is_asked_in_both_orders(compare, tmp_path):
    _, out, _ = compare("--judge", "my_judges:first", "--output_dir", tmp_path / "result")
    assert "0 wins, 12 ties, 0 losses" in out
    assert "100.0% of the pairs decided by position" in out
    row = read_rows(tmp_path / "result" / "comparisons.jsonl")[0]
    assert (row["winner_a_first"], row["winner_b_first"], row["winner"]) == ("A", "B", "tie")


def test_a_canvas_of_no_given_length_fits_the_smaller_model(base, other, thumbs, unveil, tmp_path):
    config = Path(other) / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "max_position_embeddings": 64, "max_sequence_length": 64}))
    words = ("--dataset_name", thumbs, "--judge", "my_judges:fewer", "--max_samples", 1, "--steps", 1)
    words = ("compare", "--model", other, "--against", base, *words, "--output_dir", tmp_path / "result")
    assert unveil(*words).code == 0
    settings = json.loads((tmp_path / "result" / "answers_settings.json").read_text())
    assert settings["sampling"]["gen_length"] == 32


@pytest.mark.parametrize("part", ["version of the estimator", "device of model A", "attention of model B"])
def test_answers_of_another_estimator_device_or_attention_are_refused_by_name(compare, tmp_path, part):
    assert compare("--max_samples", 2, "--output_dir", tmp_path / "result").code == 0
    file = tmp_path / "result" / "answers_settings.json"
    settings = json.loads(file.read_text())
    here = settings["computing"].pop(part)
    for was, told in (({}, "not recorded"), ({part: "other"}, "other")):
        file.write_text(json.dumps(settings | {"computing": settings["computing"] | was}))
        code, _, err = compare("--max_samples", 2, "--output_dir", tmp_path / "result", "--resume")
        assert code == 2
        assert f"{part} (was {told}, is {here})" in " ".join(err.split())


def test_conversations_are_compared_too(compare, pairs):
    assert compare("--dataset_name", pairs, "--max_samples", 2).code == 0


def test_overwriting_takes_the_old_null_away(compare, tmp_path):
    compare("--null", "--output_dir", tmp_path / "result")
    assert compare("--output_dir", tmp_path / "result").code == 2
    assert compare("--output_dir", tmp_path / "result", "--overwrite").code == 0
    assert not (tmp_path / "result" / "null_comparisons.jsonl").exists()


def test_human_ratings_prefer_praise():
    judge = load_judge("human_ratings")
    verdicts = judge.compare(["film: this movie is"] * 2, [" a wonderful delight", " dull"], [" a boring mess"] * 2)
    assert verdicts[0].winner == "A"
    assert judge.symmetric


def test_a_judge_may_be_an_object_or_made_by_a_function():
    assert load_judge("my_judges:fewer").name == "fewer letters e"
    assert load_judge("my_judges:first").name == "always the first"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nobody",
            "^--judge nobody: unknown; give human_ratings, openai:MODEL, hf:MODEL, exact, numeric, regex:PATTERN, "
            "json_schema:FILE, unit_tests, reward:module:function, or module:attribute$",
        ),
        ("no_such_module:judge", "no module no_such_module; check the spelling and the working folder"),
        ("my_judges:missing", "has no attribute 'missing'; check the spelling"),
        ("my_judges:number", "a int is no judge, it lacks name, symmetric, compare"),
        ("my_judges:a_number", "a int is no judge, it lacks name, symmetric, compare"),
        ("my_judges:broken", r"calling it raised RuntimeError \(out of order\); mend it"),
        ("my_judges:", "unknown; give human_ratings"),
    ],
)
def test_what_is_no_judge_is_refused(name, message):
    with pytest.raises(UserError, match=message) as found:
        load_judge(name)
    assert "\n" not in str(found.value)


def test_a_module_that_cannot_be_imported_is_refused(tmp_path):
    (tmp_path / "half_written_judge.py").write_text("def judge(:\n")
    with pytest.raises(UserError, match="importing half_written_judge raised SyntaxError"):
        load_judge("half_written_judge:judge")


@pytest.mark.parametrize("pattern", ["[/x]", "[a-z]+", "$a^$", ":smile:", "[bold]", "x$y_{$"])
def test_a_judge_is_called_as_it_is_named_whatever_letters_that_has(unveil, base, other, thumbs, tmp_path, pattern):
    words = ["--model", other, "--against", base, "--dataset_name", thumbs, "--gen_length", 4]
    code, out, _ = unveil("compare", *words, "--judge", f"regex:{pattern}", "--output_dir", tmp_path / "result")
    assert code == 0
    assert f"regex {pattern}" in out
    assert (tmp_path / "result" / "win_rates.png").is_file()


def test_kept_answers_with_half_a_character_are_used_again(compare, tmp_path):
    folder = tmp_path / "result"
    assert compare("--output_dir", folder).code == 0
    kept = [dict(row, text="half \ud83d") for row in read_rows(folder / "answers.jsonl") if row.pop("checksum")]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    for _ in range(2):
        code, out, _ = compare("--output_dir", folder, "--resume")
        assert code == 0
        assert "24 answers were in" in out
    assert {row["answer_a"] for row in read_rows(folder / "comparisons.jsonl")} == {"half \ufffd"}


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
def test_the_layers_of_the_sandbox_are_printed_and_recorded_and_below_the_minimum_nothing_is_loaded(
    unveil, base, other, tmp_path, monkeypatch
):
    data = write_rows(tmp_path / "tests.jsonl", [{"prompt": f"p{n}", "tests": "assert f(1) == 2"} for n in range(2)])
    words = ["compare", "--model", other, "--against", base, "--dataset_name", data, "--judge", "unit_tests"]
    words += ["--gen_length", 4, "--judge_memory", 256]
    result = tmp_path / "result"
    code, out, err = unveil(*words, "--unsafe_sandbox", "--output_dir", result)
    assert code == 0, err
    layers = json.loads((result / "compare.json").read_text())["judges"][0]["facts"]["sandbox"]
    assert f"unit tests: programs were held by {', '.join(layers)}" in out

    monkeypatch.setattr("unveil.judging.unit_tests.sandbox_layers", lambda limits: _refuse())
    code, _, err = unveil(*words)
    assert code == 2
    assert "give --unsafe_sandbox" in err
    code, _, err = unveil(*words[:8], "my_judges:fewer", "--unsafe_sandbox")
    assert code == 2
    assert "--unsafe_sandbox: none of the judges my_judges:fewer reads it" in err


def _refuse():
    raise UserError("judge unit_tests: on this machine a program could ...; or give --unsafe_sandbox")
