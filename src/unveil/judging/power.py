"""How large a difference a number of prompts can show, and how many prompts a difference needs.

The test says "A differs from B" when the interval of the win rate leaves out 1/2. With n prompts, outcomes of
standard deviation sigma when A and B are equal, and a true win rate 1/2 + delta, it does so with probability `power` if

    sqrt(n) delta = z_level sigma + z_power sqrt(sigma^2 - delta^2)

sigma^2 = (1 - tie rate) / 4 for one comparison per prompt; several seeds of a prompt that are averaged have less.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from unveil.errors import UserError
from unveil.judging.win_rate import check_level, normal_quantile

EVEN_COIN = 0.5


def minimum_detectable_difference(
    n: int, deviation: float = EVEN_COIN, power: float = 0.8, level: float = 0.95
) -> float | None:
    """Smallest |win rate - 1/2| that n prompts show with probability `power`; None if they can show none at all.

    deviation: sigma, see `deviation_from_even`; 1/2 is that of outcomes without ties, the largest possible.
    """
    z, z_power = _quantiles(power, level)
    if n < 1 or not 0 < deviation <= EVEN_COIN:
        raise UserError(
            f"minimum detectable difference: {n} prompts of deviation {deviation}; give 1 or more, and a deviation "
            "above 0, at most 0.5"
        )
    under_root = n + z_power**2 - z**2
    if under_root < 0:
        return None
    found = deviation * (z * math.sqrt(n) + z_power * math.sqrt(under_root)) / (n + z_power**2)
    return found if found < deviation else None


def prompts_needed(difference: float, deviation: float = EVEN_COIN, power: float = 0.8, level: float = 0.95) -> int:
    """How many prompts show a win rate of 1/2 + difference with probability `power`."""
    z, z_power = _quantiles(power, level)
    if not 0 < abs(difference) < deviation <= EVEN_COIN:
        raise UserError(
            f"prompts needed: a difference of {difference} with deviation {deviation}; give a difference between 0 and "
            "the deviation, which is at most 0.5"
        )
    return math.ceil(((z * deviation + z_power * math.sqrt(deviation**2 - difference**2)) / difference) ** 2)


def deviation_from_even(means: Sequence[float] | np.ndarray, level: float = 0.95) -> float:
    """sigma from the outcomes of prompts: their root mean square distance from 1/2.

    z^2 imaginary prompts, won or lost, join them as in `mean_interval`, which is what will be looked at: a few prompts
    that all tied do not show that prompts never differ.
    """
    values, imaginary = np.asarray(means, dtype=np.float64), normal_quantile(level) ** 2
    return float(np.sqrt((((values - 0.5) ** 2).sum() + imaginary / 4) / (len(values) + imaginary)))


def _quantiles(power: float, level: float) -> tuple[float, float]:
    check_level(level)
    if not 0.5 <= power < 1:
        raise UserError(f"power {power}: give a probability from 0.5 to below 1, such as 0.8")
    return normal_quantile(level), NormalDist().inv_cdf(power)
