"""Figures are PNG files that show what they were given."""

import pytest
from png_pixels import count, pixels

from unveil.report import Interval, before_after, curves, histograms, interval_bars
from unveil.report.drawing import BLUE, GREY, ORANGE
from unveil.report.figures import moving_average

ROWS = [Interval("new", 0.62, 0.58, 0.66, main=True), Interval("old", 0.5, 0.46, 0.54)]


def test_a_longer_bar_has_more_ink():
    short = interval_bars(ROWS, even=0.5, even_name="even", axis="rate")
    long = interval_bars(
        [Interval("new", 0.65, 0.58, 0.66, main=True), ROWS[1]], even=0.5, even_name="even", axis="rate"
    )
    assert count(long, BLUE) > 1.1 * count(short, BLUE) > 0


def test_only_the_main_row_is_coloured():
    plain = interval_bars([Interval("a", 0.6, 0.5, 0.7), ROWS[1]], even=0.5, even_name="even", axis="rate")
    assert count(plain, BLUE) == 0 < count(plain, GREY)


def test_an_interval_without_width_is_drawn():
    assert pixels(interval_bars([Interval("a", 0.5, 0.5, 0.5)], even=0.5, even_name="even", axis="rate")).std() > 0


def test_every_series_of_curves_is_there():
    steps = list(range(30))
    png = curves(steps, {"up": [s / 9 for s in steps], "down": [-s / 9 for s in steps]}, axis="nats")
    assert count(png, BLUE) > 200
    assert count(png, ORANGE) > 200


def test_curves_of_a_single_step_are_drawn():
    assert pixels(curves([1], {"up": [0.0]}, axis="nats")).std() > 0


def test_histograms_take_constant_groups_and_grey_the_quiet_one():
    png = histograms({"new": [3.0, 3.0], "old": [3.0]}, axis="tokens", quiet="old")
    assert count(png, ORANGE) == 0 < count(png, BLUE)
    assert count(png, GREY) > 0


def test_before_and_after_are_both_drawn():
    png = before_after({"film": (3.0, 3.1), "product": (2.5, 2.4)}, names=("base", "aligned"), axis="nats")
    assert count(png, BLUE) > 1000
    assert count(png, GREY) > 1000


def test_the_same_numbers_give_the_same_file():
    one, other = (interval_bars(ROWS, even=0.5, even_name="even", axis="rate") for _ in range(2))
    assert one == other


@pytest.mark.parametrize("width", [1, 4, 9])
def test_a_moving_average_keeps_the_first_value_and_constants(width):
    values = [0.0, 5.0, 1.0, 7.0, 2.0]
    assert moving_average(values, width)[0] == 0.0
    assert moving_average([2.0] * 5, width) == [2.0] * 5
    assert moving_average(values, 1) == values
    assert moving_average(values, 3)[2] == pytest.approx(13 / 3)
