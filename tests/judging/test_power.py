"""Minimum detectable difference: the closed form solves its equation, and turns round."""

import math

import pytest

from unveil.errors import UserError
from unveil.judging import deviation_from_even, minimum_detectable_difference, prompts_needed

Z, Z_POWER = 1.959963984540054, 0.8416212335729143


@pytest.mark.parametrize(("n", "deviation"), [(10, 0.5), (100, 0.5), (800, 0.42), (100000, 0.2)])
def test_the_equation_holds(n, deviation):
    found = minimum_detectable_difference(n, deviation)
    assert found is not None
    assert math.sqrt(n) * found == pytest.approx(Z * deviation + Z_POWER * math.sqrt(deviation**2 - found**2))


@pytest.mark.parametrize("n", [20, 150, 800])
def test_so_many_prompts_are_needed_for_it(n):
    difference = minimum_detectable_difference(n)
    assert difference is not None
    assert prompts_needed(difference * 0.9999) in (n, n + 1)
    assert prompts_needed(-difference * 1.0001) in (n, n - 1)


def test_four_times_the_prompts_show_half_the_difference():
    one, four = minimum_detectable_difference(2000), minimum_detectable_difference(8000)
    assert one is not None
    assert four == pytest.approx(one / 2, rel=1e-3)


def test_a_known_size():
    """The usual rule of thumb: 783 to 785 coin tosses for 5 points with power 0.8."""
    assert prompts_needed(0.05) == 783


def test_ties_help_and_too_few_prompts_show_nothing():
    plain, tied = minimum_detectable_difference(100), minimum_detectable_difference(100, math.sqrt(0.7 / 4))
    assert plain is not None
    assert tied is not None
    assert tied < plain
    assert minimum_detectable_difference(2) is None
    assert minimum_detectable_difference(3) is None, "three wins of three are within the interval of a fair coin"


def test_the_deviation_of_outcomes_is_that_from_even():
    assert deviation_from_even([1, 0, 1, 1]) == pytest.approx(0.5)
    assert deviation_from_even([1, 0, 0.5, 0.5] * 5000) == pytest.approx(math.sqrt(0.5 / 4), rel=1e-3)
    assert deviation_from_even([1, 0, 0.5]) == pytest.approx(math.sqrt((0.5 + Z**2 / 4) / (3 + Z**2)))


def test_a_few_ties_do_not_show_that_all_will_tie():
    assert deviation_from_even([0.5] * 4) > 0.3 > deviation_from_even([0.5] * 40) > 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimum_detectable_difference(0), "0 prompts of deviation 0.5"),
        (lambda: minimum_detectable_difference(9, 0.7), "at most 0.5"),
        (lambda: minimum_detectable_difference(9, power=0.3), "power 0.3"),
        (lambda: prompts_needed(0.0), "give a difference between 0 and"),
        (lambda: prompts_needed(0.5), "give a difference between 0 and"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
