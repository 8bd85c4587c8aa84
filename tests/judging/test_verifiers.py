"""Verifiers: exact answers, numbers, patterns, JSON schemas and unit tests decide alone."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unveil.errors import UserError
from unveil.judging import judge_both_orders
from unveil.judging.final_answer import final_answer, last_number
from unveil.judging.reference_verifiers import exact_judge, normalise, numeric_judge, regex_judge
from unveil.judging.schema_verifier import find_json, schema_judge
from unveil.judging.unit_tests import code_in, unit_test_judge
from unveil.judging.verifier import Check, VerifierJudge


def passes(judge, text: str, prompt: Any = "p", **row: Any) -> bool:
    (check,) = judge.checks([prompt], [text], {name: [value] for name, value in row.items()})
    return check.passed


def test_who_passes_wins_and_the_rest_ties():
    judge = VerifierJudge("short", lambda prompt, answer, row: Check(len(answer) < row["most"], f"{len(answer)}"))
    columns = {"most": [3, 3, 3, 1]}
    verdicts = judge.compare(["p"] * 4, ["aa", "aaaa", "a", "aa"], ["bbbb", "b", "b", "bb"], columns)
    assert [verdict.winner for verdict in verdicts] == ["A", "B", "tie", "tie"]
    assert verdicts[0].reason == "A passes (2), B fails (4)"
    assert judge.symmetric
    assert judge_both_orders(judge, ["p"], ["aa"], ["bbbb"], {"most": [3]}).verdicts[0].winner == "A"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So \\boxed{1 + \\frac{1}{2}} it is", "1 + \\frac{1}{2}"),
        ("\\boxed{3} and then \\boxed{4}", "4"),
        ("first\n#### 42\n", "42"),
        ("The answer is: Paris.", "Paris."),
        ("Answer: blue", "blue"),
        ("**Final answer:** 7", "7"),
        ("The answer is \\boxed{9}.", "9"),
        ("#### 1\nThe answer is 2", "2"),
        ("no mark", None),
        ("\\boxed{never closed", None),
        ("", None),
    ],
)
def test_final_answers_are_found(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("it is 1,234.5 in all", 1234.5),
        ("between 3 and -4", -4),
        ("5-3", 3),
        ("x = \u22127", -7),
        ("1e-3", 0.001),
        ("\\boxed{\\frac{3}{4}}", 0.75),
        ("half: 1/2", 0.5),
        ("$18 for 2 things\n#### 18", 18),
        ("cost: $1{,}000", 1000),
        (".5", 0.5),
        ("50%", 50),
        ("1/0", None),
        ("none", None),
        ("#### unknown, but 3 before", 3),
        ("1, 2, 3", 3),
    ],
)
def test_last_numbers_are_found(text, number):
    assert last_number(text) == (None if number is None else pytest.approx(number))


@given(st.text(max_size=200))
def test_no_text_breaks_the_readers(text):
    final_answer(text)
    last_number(text)


@given(st.floats(-1e12, 1e12, allow_nan=False))
def test_a_printed_number_is_read_back(value):
    assert last_number(f"the result: {value!r}") == pytest.approx(value)


def test_exact_answers():
    judge = exact_judge()
    assert passes(judge, "  PARIS. ", answer="Paris")
    assert passes(judge, "I think so. The answer is: Paris.", answer="paris")
    assert passes(judge, "Rome", reference=["Paris", "Rome"])
    assert passes(judge, "\uff30aris", answer="Paris")
    assert passes(judge, "72", answer="Natalia sold 48/2 = 24.\n#### 72")
    assert not passes(judge, "Paris or Rome", answer="Paris")
    assert not passes(judge, "", answer="Paris")
    (check,) = judge.checks(["p"], ["Rome"], {"answer": ["Paris"]})
    assert str(check) == "fails ('Rome' is not 'Paris')"
    assert normalise(" A\n b! ") == "a b"


def test_numbers():
    judge = numeric_judge()
    gsm8k = "He has 5 + 2 = 7.\n#### 7"
    assert passes(judge, "So there are 7 apples", answer=gsm8k)
    assert passes(judge, "7.0000001", answer=7)
    assert not passes(judge, "7.1", answer="7")
    assert not passes(judge, "seven", answer="7")
    assert passes(numeric_judge(0.02), "7.1", answer="7")
    with pytest.raises(UserError, match=r"the reference 'many' holds no number; correct the row \(prompt 0\)"):
        passes(judge, "7", answer="many")
    with pytest.raises(UserError, match="--judge_tolerance -1"):
        numeric_judge(-1)


def test_patterns():
    assert passes(regex_judge(r"^\d+$"), "123")
    assert not passes(regex_judge(r"^\d+$"), "12a")
    assert not regex_judge("x").reads_columns
    assert passes(regex_judge(references=("pattern",)), "abc", pattern="b")
    (check,) = regex_judge(r"^(a|aa)+$", seconds=0.2).checks(["p"], ["a" * 50 + "b"])
    assert (check.passed, check.reason) == (False, "searching took more than 0.2 s")
    with pytest.raises(UserError, match=r"--judge regex: '\(' is no regular expression"):
        regex_judge("(")


def test_a_missing_reference_names_the_columns():
    message = "judge exact: needs the column reference or answer or .*, there is level; name yours with --judge_refer"
    with pytest.raises(UserError, match=message):
        passes(exact_judge(), "x", level=3)
    with pytest.raises(UserError, match=r"there is none beside the prompt; .* \(prompt 0\)"):
        exact_judge().checks(["p"], ["x"])
    with pytest.raises(UserError, match=r"\(prompt 1\)"):
        exact_judge().checks(["p", "q"], ["x", "y"], {"answer": ["x", None]})


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}


def test_json_schemas(tmp_path):
    pytest.importorskip("jsonschema")
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    judge = schema_judge(str(path))
    assert not judge.reads_columns
    assert passes(judge, '{"n": 3}')
    assert passes(judge, 'Here:\n```json\n{"n": 3}\n```')
    checks = judge.checks(["p"] * 3, ['{"n": 0}', '{"m": 1}', "nothing"])
    assert [check.passed for check in checks] == [False] * 3
    assert checks[0].reason == "$.n: 0 is less than the minimum of 1"
    assert checks[2].reason == "no JSON"
    assert passes(schema_judge(), "[1]", schema='{"type": "array"}')
    assert not passes(schema_judge(), "{}", schema={"type": "array"})
    path.write_text('{"type": "no-such-type"}')
    with pytest.raises(UserError, match="is no JSON schema"):
        schema_judge(str(path))
    path.write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        schema_judge(str(path))
    with pytest.raises(UserError, match="cannot be read"):
        schema_judge(str(tmp_path / "missing.json"))


def test_without_jsonschema_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(
        UserError, match=r"needs jsonschema; in the repository, `pip install -c constraints.txt '\.\[judge\]'`"
    ):
        schema_judge("x.json")


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ('x {"a": [1]} y', {"a": [1]}), ("```\n[1]\n```\n```json\n[2]\n```", [2]), ("[x] [1]", [1])],
)
def test_json_is_found_in_text(text, value):
    assert find_json(text) == value


def test_programs_are_found_in_text():
    assert code_in("x = 1") == "x = 1"
    assert code_in("Text\n```python\nx = 1\n```\nmore\n```\noutput\n```") == "x = 1\n"
    assert code_in("```\nx = 1\n```") == "x = 1\n"
    assert code_in("```python\nx = 1") == "x = 1"


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
def test_programs_are_tested():
    judge = unit_test_judge()
    right, wrong = "```python\ndef f(x):\n    return x + 1\n```", "def f(x):\n    return x"
    lists = {"test_list": ["assert f(1) == 2", "assert f(2) == 3"]}
    assert passes(judge, right, **lists)
    assert not passes(judge, wrong, **lists)
    humaneval = {"test": "def check(candidate):\n    assert candidate(1) == 2", "entry_point": "f"}
    assert passes(judge, right, **humaneval)
    assert passes(judge, "    return x + 1\n", prompt="def f(x):\n", **humaneval)
    assert not passes(judge, "    return x\n", prompt="def f(x):\n", **humaneval)
    verdicts = judge.compare(["p", "p"], [right, wrong], [wrong, wrong], {"tests": ["assert f(1) == 2"] * 2})
    assert [verdict.winner for verdict in verdicts] == ["A", "tie"]
    assert verdicts[0].reason == "A passes, B fails (a test failed (line 1 of tests))"
    with pytest.raises(UserError, match="a row has no tests"):
        passes(judge, right, tests=" ")
