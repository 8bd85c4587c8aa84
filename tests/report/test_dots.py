"""`ratio_dots` draws every dot that it is given."""

from png_pixels import count, pixels

from unveil.report import Dot, ratio_dots
from unveil.report.drawing import BLUE, ORANGE

DOTS = [
    Dot("iid", "ht", 1.0, 1.0, 1.0),
    Dot("tiling", "ht", 0.3, 0.2, 0.4),
    Dot("tiling", "hajek", 0.5, 0.4, 0.6, True),
]


def test_every_series_has_its_colour_and_every_row_its_room():
    one, two = (ratio_dots({"margin": dots}, even_name="iid") for dots in (DOTS[:2], DOTS))
    assert count(one, BLUE) > 0
    assert count(one, ORANGE) == 0 < count(two, ORANGE)
    taller = ratio_dots({"margin": [*DOTS, Dot("windows", "ht", 0.8, 0.7, 0.9)]}, even_name="iid")
    assert pixels(taller).shape[0] > pixels(two).shape[0]


def test_a_panel_more_is_wider():
    one, two = (ratio_dots(dict.fromkeys(names, DOTS), even_name="iid") for names in ("a", "ab"))
    assert pixels(two).shape[1] > 1.3 * pixels(one).shape[1]


def test_an_interval_that_reaches_below_zero_is_drawn():
    assert count(ratio_dots({"margin": [*DOTS, Dot("hajek", "ht", 0.1, -0.1, 0.3)]}, even_name="iid"), BLUE) > 0
