"""The figures that compare judges and runs."""

import pytest
from png_pixels import count, pixels

from unveil.report import Line, Rate, rate_dots, run_lines
from unveil.report.drawing import MANY, broken


def test_every_judge_has_its_colour():
    rates = [Rate("A against B", judge, 0.6, 0.55, 0.65) for judge in ("jo", "ann", "eve")]
    png = rate_dots(rates)
    assert all(count(png, colour) > 0 for colour in MANY[:3])
    assert count(png, MANY[3]) == 0


def test_a_wider_interval_has_more_ink_and_a_null_row_is_hollow():
    rates = [Rate("A against B", "jo", 0.6, 0.58, 0.62), Rate("frame", "ann", 0.5, 0.3, 0.7)]
    wide = [Rate("A against B", "jo", 0.6, 0.4, 0.7), rates[1]]
    assert count(rate_dots(wide), MANY[0]) > count(rate_dots(rates), MANY[0])
    hollow = [Rate("A against B", "jo", 0.6, 0.58, 0.62, hollow=True), rates[1]]
    assert count(rate_dots(hollow), MANY[0]) < count(rate_dots(rates), MANY[0])


def test_more_rows_make_a_taller_figure():
    one = rate_dots([Rate("a", "jo", 0.5, 0.4, 0.6)])
    three = rate_dots([Rate(row, "jo", 0.5, 0.4, 0.6) for row in "abc"])
    assert pixels(three).shape[0] > pixels(one).shape[0]
    assert pixels(three).shape[1] == pixels(one).shape[1]


def test_the_same_run_has_one_colour_for_both_kinds():
    steps = list(range(30))
    lines = [Line("kto", kind, steps, [sign * step for step in steps]) for kind, sign in (("up", 1), ("down", -1))]
    both = run_lines(lines, axis="nats")
    assert count(both, MANY[0]) > count(run_lines(lines[:1], axis="nats"), MANY[0]) > 0
    assert count(both, MANY[1]) == 0
    two = run_lines([lines[0], Line("vrpo", "up", steps, steps)], axis="nats")
    assert count(two, MANY[1]) > 0


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.7]])
def test_a_run_with_few_logs_is_drawn(values):
    assert count(run_lines([Line("kto", "up", list(range(len(values))), values)], axis="nats"), MANY[0]) > 0


@pytest.mark.parametrize("letters", [30, 60, 200])
def test_long_names_stay_inside_and_leave_the_curves_their_room(letters):
    names = [f"{which}_" * (letters // 2) for which in "abcde"]
    for png in (
        rate_dots([Rate("A against B", name, 0.6, 0.5, 0.7) for name in names]),
        rate_dots([Rate(name, "jo", 0.6, 0.5, 0.7) for name in names]),
        run_lines([Line(name, "up", [1, 9], [i, i + 1]) for i, name in enumerate(names)], axis="nats"),
    ):
        picture = pixels(png)
        assert (picture[:, -1] == 255).all()
        assert (picture[:, 0] == 255).all()
        assert (picture == [int(MANY[0][i : i + 2], 16) for i in (1, 3, 5)]).all(-1).any(0).sum() > 100


def test_a_name_is_broken_after_marks_and_loses_no_letter():
    assert broken("short", 9) == "short"
    assert broken("mmlu_professional_psychology", 20) == "mmlu_professional_\npsychology"
    assert broken("vrpo from base, 1000", 10) == "vrpo from\nbase, 1000"
    assert broken("x" * 25, 10) == "\n".join(["x" * 10, "x" * 10, "x" * 5])
