"""Reward functions in TRL's signature as judges."""

import pytest

from unveil.errors import UserError
from unveil.judging import judge_both_orders
from unveil.judging.reward import RewardJudge


def matches(prompts, completions, target, **kwargs):
    return [None if wanted is None else float(text == wanted) for text, wanted in zip(completions, target)]


def test_the_higher_reward_wins_with_the_columns_of_the_data():
    judge = RewardJudge("matches", matches)
    columns = {"target": ["x", "x", "x", None], "other": [1, 2, 3, 4], "prompts": ["?"] * 4}
    verdicts = judge.compare(["p"] * 4, ["x", "y", "y", "x"], ["y", "x", "z", "y"], columns=columns)
    assert [(one.winner, one.parsed) for one in verdicts] == [("A", True), ("B", True), ("tie", True), ("tie", False)]
    assert verdicts[0].reason == "1 against 0"
    assert verdicts[3].reason == "no reward for either"
    both = judge_both_orders(judge, ["p"], ["x"], ["y"], {"target": ["x"]})
    assert both.verdicts[0].winner == "A"


def test_a_margin_ties():
    judge = RewardJudge("length", lambda prompts, completions: [len(text) for text in completions], tie_margin=1)
    assert [one.winner for one in judge.compare(["", ""], ["aaa", "aa"], ["a", "a"])] == ["A", "tie"]
    with pytest.raises(UserError, match="tie_margin is -1"):
        RewardJudge("x", matches, tie_margin=-1)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda prompts, completions: [1.0], "gave 1 rewards for 2 answers"),
        (lambda prompts, completions: [1.0, float("nan")], "the reward of row 1 is not finite"),
        (lambda prompts, completions: ["a", "b"], r"raised ValueError \(could not convert"),
        (lambda prompts, completions: 1 / 0, r"raised ZeroDivisionError \(division by zero\); mend it"),
        (lambda prompts: [1.0, 2.0], "raised TypeError"),
    ],
)
def test_a_broken_function_is_named(function, message):
    with pytest.raises(UserError, match=message) as error:
        RewardJudge("broken", function).compare(["p", "q"], ["a", "b"], ["c", "d"])
    assert "\n" not in str(error.value)
