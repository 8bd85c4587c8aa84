"""A whole comparison: unread verdicts count for nothing and are shown, and what divides judges comes first."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from unveil.errors import UserError
from unveil.judging import (
    RatingJudge,
    Verdict,
    adjusted_win_rate,
    compare_answers,
    disagreements,
    judge_answers,
    length_controlled_win_rate,
    sign_test,
)
from unveil.judging.usage import Usage


@dataclass
class Scripted:
    """Says what it is told, in the order of the prompts; `?` is a reply without a verdict."""

    first: str
    second: str = ""
    name: str = "scripted"
    calls: list = field(default_factory=list)
    usage: Usage | None = None

    @property
    def symmetric(self) -> bool:
        return not self.second

    def compare(self, prompts, answers_a, answers_b):
        said = self.second if self.calls else self.first
        self.calls.append((answers_a, answers_b))
        words = {"?": Verdict("tie", "mumble", parsed=False), "t": Verdict("tie")}
        return [words.get(letter) or Verdict(letter, "because") for letter in said]  # type: ignore[arg-type]


PROMPTS = [f"prompt {number}" for number in range(6)]
LONG, SHORT = ["many words in it"] * 6, ["one"] * 6


def test_unread_verdicts_are_left_out_and_counted():
    found = compare_answers(Scripted("AAB?t?"), PROMPTS, LONG, SHORT)
    known = adjusted_win_rate([1, 1, 0, 0.5])
    assert (found.win_rate.rate, found.win_rate.low, found.win_rate.n) == (known.rate, known.low, 4)
    assert found.unparsed == 2
    assert [row["winner"] for row in found.rows] == ["A", "A", "B", None, "tie", None]
    assert [row["parsed"] for row in found.rows] == [True, True, True, False, True, False]
    assert "2 of 6 verdicts could not be read and do not count" in found.describe()


def test_a_verdict_unread_in_one_order_counts_for_nothing():
    """Told in terms of the places: the second order is B first."""
    found = compare_answers(Scripted("AA?BtA", "BAAAt?"), PROMPTS, LONG, SHORT)
    assert found.unparsed == 2
    assert [row["winner"] for row in found.rows] == ["A", "tie", None, "B", "tie", None]
    assert [row["winner_b_first"] for row in found.rows] == ["A", "B", "B", "B", "tie", None]
    assert found.position is not None
    assert found.position.pairs == 4
    assert found.position_bias == found.position.flipped == 0.25


def test_a_judge_that_says_nothing_at_all_is_an_error_with_its_words():
    with pytest.raises(UserError, match=r"no verdict could be read from any of its 6 replies.*'mumble'"):
        compare_answers(Scripted("??????"), PROMPTS, LONG, SHORT)


def test_all_statistics_are_over_the_same_pairs():
    found = compare_answers(Scripted("AABt?A"), PROMPTS, LONG, SHORT)
    outcomes = [1, 1, 0, 0.5, 1]
    assert found.sign == sign_test(outcomes)
    assert found.length_controlled == length_controlled_win_rate(outcomes, [4] * 5, [1] * 5)
    assert (found.mean_length_a, found.mean_length_b) == (4, 1)
    assert found.length_controlled.mean_difference == 3


def test_seeds_of_a_prompt_are_one_unit_everywhere():
    found = compare_answers(Scripted("AABBtA"), ["x", "x", "y", "y", "z", "z"], LONG, SHORT)
    assert (found.win_rate.n, found.length_controlled.n) == (3, 3)
    assert (found.sign.wins, found.sign.losses) == (2, 1)


def test_everything_survives_json_and_usage_is_shown():
    judge = Scripted("AAABBB", usage=Usage(6, 2, 900, 60, 0.0123))
    found = compare_answers(judge, PROMPTS, LONG, SHORT)
    summary = json.loads(json.dumps(found.summary(), allow_nan=False))
    assert summary["usage"]["requests"] == 6
    assert found.usage is judge.usage
    assert summary["minimum_detectable_difference"] == pytest.approx(0.5, abs=0.05)
    assert summary["position"] is None


def test_what_divides_the_judges_comes_first():
    fair = judge_answers(Scripted("AAAtA?", "BABtBA", "fair"), PROMPTS, LONG, SHORT)  # second: turned round at place 1
    blunt = judge_answers(Scripted("BAAAAA", name="blunt"), PROMPTS, LONG, SHORT)
    found = disagreements([fair, blunt])
    assert [(one.place, one.between, one.orders, one.unparsed) for one in found] == [
        (0, 1.0, 0.0, 0),  # A against B
        (1, 0.5, 1.0, 0),  # the order turned A into B, so a tie against A
        (3, 0.5, 0.0, 0),  # a tie against A
        (5, 0.0, 0.0, 1),
        (2, 0.0, 0.0, 0),
        (4, 0.0, 0.0, 0),
    ]
    assert [one.any for one in found] == [True] * 4 + [False] * 2


def test_judges_of_other_pairs_cannot_be_laid_side_by_side():
    one = judge_answers(Scripted("AB"), PROMPTS[:2], LONG[:2], SHORT[:2])
    other = judge_answers(Scripted("ABA"), PROMPTS[:3], LONG[:3], SHORT[:3])
    with pytest.raises(UserError, match="different numbers of pairs"):
        disagreements([one, other])


def test_columns_reach_a_judge_that_reads_them():
    class Reader:
        name, symmetric, reads_columns = "reader", True, True

        def compare(self, prompts, answers_a, answers_b, columns):
            return [Verdict("A" if a == right else "B") for a, right in zip(answers_a, columns["answer"])]

    found = compare_answers(Reader(), ["2 + 2", "3 + 3"], ["4", "7"], ["5", "6"], columns={"answer": ["4", "6"]})
    assert [row["winner"] for row in found.rows] == ["A", "B"]
    plain = RatingJudge("letters", lambda texts: np.array([len(text) for text in texts]))
    assert compare_answers(plain, ["p"], ["aa"], ["a"], columns={"answer": ["x"]}).win_rate.rate == 1.0
