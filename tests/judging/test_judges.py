"""Judges: a score per answer, both orders for those that may read unfairly, and whole comparisons."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from unveil.errors import UserError
from unveil.judging import (
    Judge,
    RatingJudge,
    Verdict,
    adjusted_win_rate,
    compare_answers,
    judge_answers,
    judge_both_orders,
)


def letters(texts):
    return np.array([len(text) for text in texts])


@dataclass(frozen=True)
class ScriptedJudge:
    """Answers from a table {(first answer, second answer): winner in terms of what it was shown}."""

    table: dict
    name: str = "scripted"
    symmetric: bool = False

    def compare(self, prompts, answers_a, answers_b):
        return [Verdict(self.table[a, b], f"{a} or {b}") for a, b in zip(answers_a, answers_b, strict=True)]


FAIR = {("good", "bad"): "A", ("bad", "good"): "B"}
FIRST = {("u", "v"): "A", ("v", "u"): "A"}
SECOND = {("p", "q"): "B", ("q", "p"): "B"}
HESITANT = {("s", "t"): "A", ("t", "s"): "tie"}
EVEN = {("m", "n"): "tie", ("n", "m"): "tie"}
TABLE = {**FAIR, **FIRST, **SECOND, **HESITANT, **EVEN}
A = ["good", "bad", "u", "u", "p", "s", "m", "good"]
B = ["bad", "good", "v", "v", "q", "t", "n", "bad"]
PROMPTS = [f"prompt {number}" for number in range(8)]


def test_a_verdict_swaps_and_counts():
    assert [Verdict(winner).outcome for winner in ("A", "tie", "B")] == [1.0, 0.5, 0.0]
    assert Verdict("A", "why").swapped() == Verdict("B", "why")
    assert Verdict("tie").swapped() == Verdict("tie")
    with pytest.raises(ValueError, match="'C'"):
        Verdict("C")  # type: ignore[arg-type]


def test_the_higher_rating_wins_and_the_margin_ties():
    judge: Judge = RatingJudge("letters", letters, tie_margin=1.0)
    verdicts = judge.compare(["", "", "", ""], ["aaa", "aa", "a", "aaaa"], ["a", "a", "aa", "a"])
    assert [verdict.winner for verdict in verdicts] == ["A", "tie", "tie", "A"]
    assert verdicts[0].reason == "3 against 1"
    assert judge.symmetric
    swapped = judge.compare(["", "", "", ""], ["a", "a", "aa", "a"], ["aaa", "aa", "a", "aaaa"])
    assert [verdict.winner for verdict in swapped] == ["B", "tie", "tie", "B"]


def test_the_margin_itself_is_a_tie_and_equal_scores_tie_without_one():
    judge = RatingJudge("value", lambda texts: np.array([float(text) for text in texts]), tie_margin=0.25)
    assert [v.winner for v in judge.compare(["", ""], ["1.25", "1.26"], ["1", "1"])] == ["tie", "A"]
    assert RatingJudge("letters", letters).compare([""], ["x"], ["y"])[0].winner == "tie"


def test_a_rating_may_read_the_prompt_too():
    seen = []

    def remember(texts):
        seen.extend(texts)
        return np.zeros(len(texts))

    RatingJudge("answers", remember).compare(["p"], ["a"], ["b"])
    RatingJudge("both", remember, reads="prompt_and_answer").compare(["p"], ["a"], ["b"])
    RatingJudge("spaced", remember, reads="prompt_and_answer", separator=" ").compare(["p"], ["a"], ["b"])
    assert seen == ["a", "b", "pa", "pb", "p a", "p b"]


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda texts: np.zeros(1), "judge broken: scores of shape \\(1,\\) for 2 texts"),
        (lambda texts: np.array([0.0, np.nan]), "judge broken: the score of row 1 is not finite"),
    ],
)
def test_a_broken_scorer_is_named(score, message):
    with pytest.raises(UserError, match=message):
        RatingJudge("broken", score).compare(["", ""], ["a", "b"], ["c", "d"])


def test_a_negative_margin_is_refused():
    with pytest.raises(UserError, match="tie_margin is -1"):
        RatingJudge("letters", letters, tie_margin=-1)


def test_both_orders_agree_or_tie_and_the_position_bias_is_counted():
    both = judge_both_orders(ScriptedJudge(TABLE), PROMPTS, A, B)
    assert [verdict.winner for verdict in both.verdicts] == ["A", "B", "tie", "tie", "tie", "tie", "tie", "A"]
    assert both.favours_first == 2 / 8
    assert both.favours_second == 1 / 8
    assert both.position_bias == 3 / 8
    assert both.verdicts[2].reason == "A first: A (u or v). B first: B (v or u)"


def test_a_judge_that_always_takes_the_first_gives_an_even_rate():
    class First:
        name, symmetric = "first", False

        def compare(self, prompts, answers_a, answers_b):
            return [Verdict("A")] * len(prompts)

    comparison = compare_answers(First(), PROMPTS, A, B)
    assert comparison.win_rate.rate == 0.5
    assert comparison.win_rate.ties == 8
    assert comparison.position_bias == 1.0


def test_exchanging_the_answers_exchanges_the_result():
    for judge in (ScriptedJudge(TABLE), RatingJudge("letters", letters)):
        forward, backward = compare_answers(judge, PROMPTS, A, B), compare_answers(judge, PROMPTS, B, A)
        assert forward.win_rate.rate == pytest.approx(1 - backward.win_rate.rate)
        assert forward.win_rate.wins == backward.win_rate.losses
        assert forward.position_bias == backward.position_bias


def test_a_comparison_has_a_row_per_pair_and_survives_json():
    comparison = compare_answers(ScriptedJudge(TABLE), PROMPTS, A, B)
    rows = [json.loads(json.dumps(row)) for row in comparison.rows]
    assert rows[2] == {
        "judge": "scripted",
        "prompt": "prompt 2",
        "answer_a": "u",
        "answer_b": "v",
        "winner_a_first": "A",
        "winner_b_first": "B",
        "winner": "tie",
        "reason": "A first: A (u or v). B first: B (v or u)",
        "parsed": True,
    }
    assert [row["prompt"] for row in rows] == PROMPTS
    summary = json.loads(json.dumps(comparison.summary(), allow_nan=False))
    assert summary["win_rate"]["wins"] == 2
    assert "rows" not in summary
    assert comparison.win_rate == adjusted_win_rate([1, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 1])
    assert comparison.describe().startswith("scripted: win rate 0.562 ")
    assert comparison.describe().endswith("37.5% of the pairs decided by position")


def test_a_symmetric_judge_is_asked_once_and_has_no_position_bias():
    calls = []

    def count(texts):
        calls.append(len(texts))
        return letters(texts)

    comparison = compare_answers(RatingJudge("letters", count), PROMPTS, A, B)
    assert calls == [8, 8]  # A, then B
    assert comparison.position_bias is None
    assert "winner_a_first" not in comparison.rows[0]
    assert comparison.describe().endswith("words")


def test_lengths_are_words_per_answer():
    judge = RatingJudge("letters", letters)
    comparison = compare_answers(judge, ["x", "y"], ["one two  three", ""], ["one", "two\nwords here"])
    assert (comparison.mean_length_a, comparison.mean_length_b) == (1.5, 2.0)
    assert comparison.length_ratio == 0.75
    assert compare_answers(judge, ["x"], ["one"], [""]).length_ratio is None


def test_several_seeds_of_a_prompt_are_one_unit():
    judge = RatingJudge("letters", letters)
    comparison = compare_answers(judge, ["x", "y", "x"], ["aa", "a", "a"], ["a", "aa", "aa"])
    assert comparison.win_rate.n == 2
    assert comparison.win_rate.rate == 0.25
    apart = compare_answers(judge, ["x", "y", "x"], ["aa", "a", "a"], ["a", "aa", "aa"], clusters=[0, 1, 2])
    assert apart.win_rate.n == 3


def test_bad_input_is_told_in_one_line():
    judge = RatingJudge("letters", letters)
    with pytest.raises(UserError, match="compare: 2 prompts, 1 answers A and 2 answers B; give one"):
        compare_answers(judge, ["x", "y"], ["a"], ["a", "b"])
    with pytest.raises(UserError, match="compare: there are no prompts"):
        compare_answers(judge, [], [], [])

    class Silent(ScriptedJudge):
        def compare(self, prompts, answers_a, answers_b):
            return []

    with pytest.raises(UserError, match="judge scripted: gave 0 verdicts for 1 prompts"):
        compare_answers(Silent({}), ["x"], ["a"], ["b"])


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        (lambda *a: 1 / 0, r"its `compare` raised ZeroDivisionError \(division by zero\); mend it"),
        (lambda *a: {}["\ud800"], "its `compare` raised KeyError"),
        (lambda *a: None, "its `compare` raised TypeError"),
        (lambda *a: ["A"], r"gave a str, not an unveil\.judging\.Verdict; mend it"),
    ],
)
def test_a_judge_of_the_users_own_that_fails_is_one_line(compare, message):
    class Own:
        name, symmetric = "own", True

    Own.compare = lambda self, *given: compare(*given)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=f"^judge own: {message}"):
        judge_answers(Own(), ["x"], ["a"], ["b"])  # type: ignore[arg-type]
