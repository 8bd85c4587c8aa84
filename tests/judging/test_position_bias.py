"""Position bias: what a judge does with places, apart from what it thinks of the answers."""

import pytest

from unveil.errors import UserError
from unveil.judging import Verdict, position_bias, sign_test


def verdicts(winners: str) -> list[Verdict]:
    """`?` is unparsed."""
    return [Verdict("tie", parsed=False) if w == "?" else Verdict("tie" if w == "t" else w) for w in winners]  # type: ignore[arg-type]


def test_a_fair_judge_has_none_however_good_one_model_is():
    found = position_bias(verdicts("AAAAABt"), verdicts("AAAAABt"))
    assert found is not None
    assert (found.first.rate, found.flipped, found.same) == (0.5, 0.0, 1.0)
    assert found.test.p_value == 1.0
    assert found.first.low < 0.5 < found.first.high


def test_always_the_first_is_seen_as_that():
    found = position_bias(verdicts("A" * 12), verdicts("B" * 12))
    assert found is not None
    assert (found.first.rate, found.first.high, found.flipped, found.high, found.same) == (1.0, 1.0, 1.0, 1.0, 0.0)
    assert found.test.p_value == pytest.approx(2 / 2**12)
    second = position_bias(verdicts("B" * 12), verdicts("A" * 12))
    assert second is not None
    assert (second.first.rate, second.flipped) == (0.0, 1.0)


def test_it_counts_pairs_by_hand():
    """Fair, first, second, first against a tie, unread in one order: four pairs count."""
    found = position_bias(verdicts("AABAA"), verdicts("ABAt?"))
    assert found is not None
    assert (found.pairs, found.n) == (4, 4)
    assert found.first.rate == pytest.approx((0.5 + 1 + 0 + 0.75) / 4)
    assert (found.first.wins, found.first.ties, found.first.losses) == (4, 1, 3)
    assert found.flipped == 0.5
    assert found.same == 0.25
    assert found.test.p_value == sign_test([1, 0, 1, 0.5]).p_value, "two lean to the first, one to the second"


def test_several_seeds_of_a_prompt_are_one_unit():
    found = position_bias(verdicts("AAAA"), verdicts("BBAA"), ["x", "x", "y", "y"])
    assert found is not None
    assert (found.n, found.pairs, found.flipped) == (2, 4, 0.5)


def test_nothing_read_is_nothing_known():
    assert position_bias(verdicts("?"), verdicts("A")) is None
    with pytest.raises(UserError, match="give both orders of every pair"):
        position_bias(verdicts("A"), verdicts("AB"))
