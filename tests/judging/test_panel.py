"""A panel counts votes, keeps them, and is fair whoever sits on it."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from unveil.errors import UserError
from unveil.judging import Verdict, judge_both_orders
from unveil.judging.panel import Panel, PanelVerdict
from unveil.judging.usage import Usage

NONE = Verdict("tie", "?", parsed=False)


@dataclass
class Says:
    """A symmetric judge with a list of verdicts."""

    verdicts: list
    name: str = "says"
    symmetric: bool = True
    usage: Usage | None = None

    def compare(self, prompts, answers_a, answers_b):
        return [one if isinstance(one, Verdict) else Verdict(one) for one in self.verdicts]


@dataclass
class First:
    """Likes the first answer; asks for columns and remembers them."""

    name: str = "first"
    symmetric: bool = False
    reads_columns: bool = True
    seen: list = field(default_factory=list)

    def compare(self, prompts, answers_a, answers_b, columns):
        self.seen.append(columns)
        return [Verdict("A")] * len(prompts)


def result(vote, *votes):
    (verdict,) = Panel([Says([one]) for one in votes], vote).compare(["p"], ["a"], ["b"])
    return (verdict.winner, verdict.parsed)


@pytest.mark.parametrize(
    ("votes", "majority", "mean"),
    [
        (("A", "A", "B"), "A", "A"),
        (("B", "B", "A"), "B", "B"),
        (("A", "B"), "tie", "tie"),
        (("A", "tie", "B"), "tie", "tie"),
        (("A", "tie", "tie"), "tie", "A"),
        (("A", "tie"), "tie", "A"),
        (("B", "tie", "tie"), "tie", "B"),
        (("A", "A", "tie", "B"), "tie", "A"),
        (("A", NONE, NONE), "A", "A"),
        (("A", NONE, "B"), "tie", "tie"),
    ],
)
def test_votes_are_counted(votes, majority, mean):
    assert result("majority", *votes) == (majority, True)
    assert result("mean", *votes) == (mean, True)


def test_without_a_vote_that_can_be_read_there_is_no_verdict():
    assert result("majority", NONE, NONE) == ("tie", False)


def test_votes_are_kept_and_swapped_with_the_verdict():
    panel = Panel([Says(["A"], "x"), Says(["A"], "y"), Says([NONE], "z")])
    (verdict,) = panel.compare(["p"], ["a"], ["b"])
    assert isinstance(verdict, PanelVerdict)
    assert [vote.winner for vote in verdict.votes] == ["A", "A", "tie"]
    assert verdict.reason == "x: A, y: A, z: no verdict"
    assert [vote.winner for vote in verdict.swapped().votes] == ["B", "B", "tie"]
    assert not verdict.swapped().votes[2].parsed
    assert panel.name == "panel of x, y, z"


def test_members_that_favour_a_place_are_asked_in_both_orders_and_columns_reach_those_that_read_them():
    first = First()
    members: Any = [first, Says(["A", "B"])]
    panel = Panel(members, "mean")
    verdicts = panel.compare(["p", "q"], ["a", "a"], ["b", "b"], columns={"reference": [1, 2]})
    assert [verdict.winner for verdict in verdicts] == ["A", "B"]
    assert first.seen == [{"reference": [1, 2]}] * 2
    assert panel.symmetric
    assert panel.reads_columns
    assert not Panel([Says(["A"])]).reads_columns


def test_usage_is_the_sum():
    spender = Says(["A"], usage=Usage(3, 1, 10, 5, 0.5, 1))
    assert Panel([spender, Says(["A"]), spender]).usage == Usage(6, 2, 20, 10, 1.0, 2)
    assert Panel([Says(["A"])]).usage is None


def test_an_empty_panel_and_an_unknown_vote_are_refused():
    with pytest.raises(UserError, match="panel: has no members"):
        Panel([])
    with pytest.raises(UserError, match="--judge_vote loudest: unknown; give majority or mean"):
        Panel([Says(["A"])], "loudest")  # type: ignore[arg-type]


def test_an_unparsed_order_leaves_the_pair_unparsed():
    class Half:
        name, symmetric = "half", False

        def compare(self, prompts, answers_a, answers_b):
            return [Verdict("A") if a < b else NONE for a, b in zip(answers_a, answers_b, strict=True)]

    both = judge_both_orders(Half(), ["p", "q"], ["a", "b"], ["b", "a"])
    assert [(verdict.winner, verdict.parsed) for verdict in both.verdicts] == [("tie", False)] * 2
    assert both.verdicts[0].reason == "A first: A. B first: no verdict (?)"
    assert both.position_bias == 0.0
    with pytest.raises(ValueError, match="could not be read, yet the winner is 'A'"):
        Verdict("A", parsed=False)
