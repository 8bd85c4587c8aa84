"""Verdicts are read from many forms, and never guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unveil.judging.verdict_text import json_objects, read_verdict


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ('{"reason": "A is right.", "verdict": "A"}', "A"),
        ('{"verdict": "tie"}', "tie"),
        ('Here it is:\n```json\n{"Verdict": "Answer B", "explanation": "shorter"}\n```\nBest wishes', "B"),
        ('{"reason": "two\nlines", "winner": "b"}', "B"),
        ('{"reason": "they said \\"Verdict: A\\"", "verdict": "B"}', "B"),
        ('{"scores": {"A": 3, "B": 4}} and then {"better": "Response B"}', "B"),
        ('{"verdict": "A", "reason": "it was cut', "A"),
        ("{'verdict': 'B', 'reason': 'quotes'}", "B"),
        ("[[A]]", "A"),
        ("I compared them. [[C]] means that they tie, I say [[tie]]", "tie"),
        ("My final verdict is: [[B>A]]", "B"),
        ("[[A>>B]]", "A"),
        ("[[A=B]]", "tie"),
        ("Verdict: B", "B"),
        ("Long text.\n\n**Verdict:** A", "A"),
        ("**Final Verdict: B**", "B"),
        ("### Winner: Assistant A", "A"),
        ("The winner is B.", "B"),
        ("All in all, verdict: A, because it is correct", "A"),
        ("Verdict: A. It is shorter than B.", "A"),
        ("Preference - tie", "tie"),
        ("Judgment: Both are equally good", "tie"),
        ("B", "B"),
        ("  **B**.\n", "B"),
        ("Answer A is better.", "A"),
        ("It's a tie.", "tie"),
        ("equally good", "tie"),
        ("First I thought of this and that.\nA", "A"),
        ("```\nA\n```", "A"),
        ("<think>Verdict: B? No.</think>\nVerdict: A", "A"),
        ("Surely [[B]]</think>[[A]]", "A"),
    ],
)
def test_forms_that_are_read(text, winner):
    verdict = read_verdict(text)
    assert (verdict.winner, verdict.parsed) == (winner, True)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the reply is empty"),
        ("  \n", "the reply is empty"),
        ("I like both in their way.", "the reply holds no verdict: I like both in their way."),
        ("A good answer would say more.", "the reply holds no verdict"),
        ("[[A]] or [[B]]", "the reply contradicts itself"),
        ("Verdict: A\nVerdict: B", "the reply contradicts itself"),
        ("Verdict: A. Verdict: B.", "the reply contradicts itself"),
        ('{"verdict": "A"} {"verdict": "B"}', "the reply contradicts itself"),
        ('{"verdict": "A"}\n[[B]]', "the reply contradicts itself"),
        ("Verdict: A, B or tie", "the reply holds no verdict"),
        ("Verdict: A|B|tie", "the reply holds no verdict"),
        ('{"verdict": "A or B"}', "the reply holds no verdict"),
        ('{"verdict": null}', "the reply holds no verdict"),
        ('{"verdict": 1}', "the reply holds no verdict"),
        ("[[X]]", "the reply holds no verdict"),
        ("<think>Verdict: A", "the reply is empty"),
        ("I do not think that answer A is better.", "the reply holds no verdict"),
        ("The verdict is not yet clear", "the reply holds no verdict"),
        ("A and B", "the reply holds no verdict"),
        ("C", "the reply holds no verdict"),
    ],
)
def test_what_is_not_said_is_not_guessed(text, fault):
    verdict = read_verdict(text)
    assert (verdict.winner, verdict.parsed) == ("tie", False)
    assert verdict.reason.startswith(fault)
    assert "\n" not in verdict.reason


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text):
    verdict = read_verdict(text)
    assert verdict.parsed or verdict.winner == "tie"


@given(st.text(max_size=60), st.sampled_from(["A", "B", "tie"]))
def test_a_verdict_in_json_is_read_whatever_the_reason_says(reason, winner):
    import json

    verdict = read_verdict(json.dumps({"reason": reason, "verdict": winner}))
    assert (verdict.winner, verdict.parsed) == (winner, True)


def test_the_reason_is_the_judges_own():
    assert read_verdict('x {"verdict": "A", "reason": "more\\n exact"} y').reason == "more exact"
    assert read_verdict("Because of this.\nVerdict: A").reason == "Because of this. Verdict: A"
    assert len(read_verdict("word " * 1000 + "\nVerdict: A").reason) == 503


def test_outermost_objects_are_found_in_any_text():
    found = [value for _, _, value in json_objects('{ {"a": {"b": 1}} [1] {"c": "}"} {"d": ')]
    assert found == [{"a": {"b": 1}}, {"c": "}"}]
    assert list(json_objects("{" * 3000)) == []
