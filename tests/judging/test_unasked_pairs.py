"""Pairs of equal answers that a judge is never asked about: ties of the answers, and no evidence about the judge."""

import json

import pytest
from scripted_endpoint import LONG, PROMPTS, SHORT, judge_of

from unveil.errors import UserError
from unveil.judging import (
    Unread,
    Verdict,
    adjusted_win_rate,
    compare_answers,
    comparison_or_unread,
    judge_agreement,
    judge_answers,
    position_bias,
    self_consistency,
)
from unveil.judging.panel import Panel

UNASKED = Verdict("tie", "the answers are the same", asked=False)
A, B, TIE = Verdict("A"), Verdict("B"), Verdict("tie")
SIX = (PROMPTS[:6], LONG[:6], [*LONG[:2], *SHORT[2:6]])  # the first two pairs have equal answers


@pytest.fixture
def first(server, api_key):
    """A judge at an endpoint that says A whatever it reads."""
    pytest.importorskip("openai")
    server.says = lambda body: "Verdict: A"
    return judge_of(server)


def test_a_judge_of_places_decides_all_pairs_that_it_is_asked_by_position(first):
    found = compare_answers(first, *SIX)
    assert found.position is not None
    assert (found.position_bias, found.position.flipped, found.position.pairs) == (1.0, 1.0, 4)
    assert found.position.first.rate == 1.0
    assert (found.equal, found.asked, found.unparsed) == (2, 4, 0)
    assert found.win_rate == adjusted_win_rate([0.5] * 6), "equal answers are ties of the answers"
    assert found.describe().endswith(
        "100.0% of the pairs decided by position; 2 of 6 pairs had equal answers, which tie unasked"
    )


def test_the_mark_survives_both_orders_the_panel_and_the_rows(first):
    judgement = judge_answers(first, *SIX)
    assert judgement.orders is not None
    marks = [False] * 2 + [True] * 4
    for verdicts in (judgement.verdicts, judgement.orders.a_first, judgement.orders.b_first):
        assert [verdict.asked for verdict in verdicts] == marks
    assert [row.get("asked", True) for row in judgement.rows()] == marks
    votes = Panel([first]).compare(*SIX)
    assert [vote.asked for vote in votes] == marks
    assert [vote.swapped().asked for vote in votes] == marks


def test_nothing_asked_is_nothing_known_of_the_judge(first, server):
    found = compare_answers(first, PROMPTS[:3], LONG[:3], LONG[:3])
    assert not server.asked
    assert (found.position, found.position_bias, found.asked) == (None, None, 0)
    assert found.win_rate.rate == 0.5
    assert "by position" not in found.describe()


def test_equal_answers_to_a_judge_that_reads_them_are_asked(first):
    class Lengths:
        name, symmetric = "lengths", True

        def compare(self, prompts, answers_a, answers_b):
            return [A if len(a) > len(b) else TIE for a, b in zip(answers_a, answers_b)]

    found = compare_answers(Lengths(), *SIX)
    assert (found.equal, found.asked) == (2, 6)
    assert found.describe().endswith("2 of 6 pairs had equal answers")
    both = Panel([first, Lengths()]).compare(*SIX)
    assert all(vote.asked for vote in both), "one of its members was"


def test_they_count_neither_for_agreement_nor_for_consistency_nor_for_position():
    one, other = [A, A, B, TIE], [A, B, B, A]
    more = [UNASKED] * 5
    assert judge_agreement({"x": one + more, "y": other + more}) == judge_agreement({"x": one, "y": other})
    assert self_consistency([one + more, other + more]) == self_consistency([one, other])
    assert position_bias(one + more, other + more) == position_bias(one, other)
    assert judge_agreement({"x": one + more, "y": other + [A] * 5}).pairs[0].kappa.n == 4
    assert position_bias(more, more) is None
    assert self_consistency([more, more]) is None


@pytest.mark.parametrize("given", [{"winner": "A"}, {"winner": "tie", "parsed": False}])
def test_only_a_tie_can_be_unasked(given):
    with pytest.raises(ValueError, match="only a tie of equal answers needs no judge"):
        Verdict(**given, asked=False)


def test_ties_of_equal_answers_make_no_win_rate_of_a_judge_that_cannot_be_read(server, first):
    server.says = lambda body: "I would rather not say."
    judgement = judge_answers(first, *SIX)
    found = comparison_or_unread(judgement)
    assert isinstance(found, Unread)
    assert (found.asked, found.unparsed, found.equal) == (4, 4, 2)
    assert found.describe().endswith(
        ": win rate not known: none of 4 verdicts could be read; 2 of 6 pairs had equal answers"
    )
    assert json.loads(json.dumps(found.summary(), allow_nan=False))["win_rate"] is None
    with pytest.raises(UserError, match=r"from any of its 4 replies, the first of which is .*I would rather not say"):
        compare_answers(first, *SIX)
