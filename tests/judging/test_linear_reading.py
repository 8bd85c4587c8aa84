"""Every reader of what a model wrote takes time in proportion to its length."""

import contextlib
import time

import pytest

from unveil.judging.final_answer import final_answer, last_number
from unveil.judging.reference_verifiers import normalise
from unveil.judging.schema_verifier import find_json, schema_judge
from unveil.judging.unit_tests import code_in
from unveil.judging.verdict_text import read_verdict
from unveil.judging.verifier import Check, VerifierJudge

PIECES = (
    "\n", "\n> ", " ", "<think>", "</think>", "[[", "[[ ", "{", '{"a":', '{"a":[0,0,0,0,0,', "[", "[0,", "9", "```",
    "```\n", "```json\n", "``` ", "\\boxed{", "\\boxed{x}", "#### ", "#### a ", "answer is ", "answer:\n", "answer: * ",
    "verdict: ", "final ", "my final verdict ", "verdict", "**", "1,", "1/", "\\frac{", "A or ", "- ", "'", '"', "}",
)  # fmt: skip
LENGTH = 20_000


def _json(text: str) -> None:
    with contextlib.suppress(ValueError):
        find_json(text)


@pytest.mark.parametrize("read", [read_verdict, final_answer, last_number, _json, code_in, normalise])
def test_no_text_takes_long_to_read(read):
    slow = []
    for piece in PIECES:
        for text in (
            piece * (LENGTH // len(piece)),
            "x" + piece * (LENGTH // len(piece)) + "x",
            "#### a" + piece * 2000,
        ):
            start = time.process_time()
            read(text)
            if (took := time.process_time() - start) > 0.5:
                slow.append((piece, round(took, 1)))
    assert not slow


def test_a_pattern_in_a_schema_gives_up():
    pytest.importorskip("jsonschema")
    evil = "^(a|aa)+$"
    for schema in (
        {"pattern": evil},
        {"patternProperties": {evil: {}}},
        {"additionalProperties": False, "patternProperties": {evil: {}}},
    ):
        text = f'"{"a" * 60}b"' if "pattern" in schema else f'{{"{"a" * 60}b": 1}}'
        (check,) = schema_judge().checks(["p"], [text], {"schema": [schema]})
        assert check.reason == "matching a pattern of the schema took more than 1 s"


def test_patterns_and_names_in_schemas_mean_what_they_meant():
    pytest.importorskip("jsonschema")
    schema = {"patternProperties": {"^n": {"type": "integer"}}, "properties": {"x": {}}, "additionalProperties": False}
    texts = ['{"n1": 1, "x": "s"}', '{"n1": "no"}', '{"other": 1}']
    checks = schema_judge().checks(["p"] * 3, texts, {"schema": [schema] * 3})
    assert [check.passed for check in checks] == [True, False, False]
    assert "'other' was unexpected" in checks[2].reason


def test_json_nested_too_deeply_fails_and_ends_nothing():
    pytest.importorskip("jsonschema")
    schema = {"properties": {"a": {"$ref": "#"}}}
    texts = ['{"a":' * 500 + "1" + "}" * 500, "{}"]
    checks = schema_judge().checks(["p"] * 2, texts, {"schema": [schema] * 2})
    assert checks[1].passed
    assert checks[0].passed or checks[0].reason == "the JSON is nested too deeply"


def test_an_answer_on_which_a_check_breaks_is_unread_and_the_others_are_judged():
    def check(prompt, answer, row):
        if answer == "evil":
            raise RecursionError("too deep")
        return Check(answer == "good")

    verdicts = VerifierJudge("own", check).compare(["p"] * 2, ["evil", "good"], ["good", "bad"])
    assert [(verdict.winner, verdict.parsed) for verdict in verdicts] == [("tie", False), ("A", True)]
    assert verdicts[0].reason == "A could not be checked (RecursionError: too deep), B passes"
