"""Names of devices as people write them."""

import pytest

from unveil.errors import UserError
from unveil.planning import CARDS, devices, hours


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [
        ("1xH100-80GB", 1, "H100-80GB"),
        ("8xA100-80GB", 8, "A100-80GB"),
        ("4 x a100-40gb", 4, "A100-40GB"),
        ("H200", 1, "H200-141GB"),
        ("2xrtx4090", 2, "RTX4090-24GB"),
        ("16xMI300X", 16, "MI300X-192GB"),
    ],
)
def test_names(text, count, name):
    assert devices(text)[:2] == (count, name)
    assert devices(text)[2:] == CARDS[name]


def test_figures_of_other_cards():
    assert devices("2xQ9", memory_gb=32, tflops=100) == (2, "Q9", 100, 32)
    assert devices("H100", tflops=756).tflops == 756


@pytest.mark.parametrize("text", ["", "8x", "0xH100", "x", "A100", "2xQ9", "cpu"])
def test_what_is_no_device(text):
    with pytest.raises(UserError, match="--gpus"):
        devices(text)


def test_hours_at_the_peak():
    """One PFLOP/s for an hour; two devices take half of it, an uneven share more."""
    card = devices("1xQ9", memory_gb=1, tflops=1000)
    found = hours(3.6e18, card, 0.4)
    assert found == pytest.approx({"given": 2.5, "low": 2.5 / 0.75, "high": 2.0})
    assert hours(3.6e18, card._replace(count=2), 0.4, balance=1.5)["given"] == pytest.approx(2.5 * 1.5 / 2)
    assert hours(3.6e18, card, 1.0)["high"] == pytest.approx(1.0)
