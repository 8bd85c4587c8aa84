"""Intervals of means over two crossed samples: training seeds, and held-out pairs (or prompts) that all seeds share.

Rows and columns are resampled independently (the pigeonhole bootstrap, Owen 2007), so the interval is over both. It is
wide enough for the held-out sample; two or three seeds say little about all seeds, and the interval can say no more.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000


class Estimate(NamedTuple):
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3, signed: bool = False) -> str:
        """`0.640 (0.601 to 0.679)`."""
        sign = "+" if signed else ""
        return f"{self.value:{sign}.{digits}f} ({self.low:{sign}.{digits}f} to {self.high:{sign}.{digits}f})"

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high < 0


def crossed(values_SN: NDArray[np.float64], resamples: int = RESAMPLES) -> Estimate:
    """The mean of `[seeds, items]` with its interval over both; with one seed, over the items."""
    seeds, items = values_SN.shape
    rng = np.random.default_rng(0)
    picked_BS = rng.multinomial(seeds, [1 / seeds] * seeds, size=resamples) / seeds
    picked_BN = rng.multinomial(items, [1 / items] * items, size=resamples) / items
    means_B = np.einsum("bs,sn,bn->b", picked_BS, values_SN, picked_BN, optimize=True)
    low, high = np.quantile(means_B, [0.025, 0.975])
    return Estimate(float(values_SN.mean()), float(low), float(high))


def ratio(upper_P: NDArray[np.float64], lower_P: NDArray[np.float64], resamples: int = RESAMPLES) -> Estimate:
    """mean(upper) / mean(lower) of paired items `[P]`, items resampled together."""
    rng = np.random.default_rng(0)
    picked_BP = rng.multinomial(len(upper_P), [1 / len(upper_P)] * len(upper_P), size=resamples)
    ratios_B = (picked_BP @ upper_P) / (picked_BP @ lower_P)
    low, high = np.quantile(ratios_B, [0.025, 0.975])
    return Estimate(float(upper_P.mean() / lower_P.mean()), float(low), float(high))
