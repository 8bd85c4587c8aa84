"""SplitMix64 (Steele, Lea, Flood 2014) as a counter-based hash: the only source of randomness of a draw plan.

A hash of integers needs no state, so a draw is the same on every device, world size, batch order and resume.
The constants of `example_seed` and `draw_seed` are those of the published ELBO-KTO run (arXiv 2510.23658), so
that seed 0, epoch 0 reproduces its mask sizes.
"""

import numpy as np

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_TAG = 0xD1342543DE82EF95
_EXAMPLE_SALT = 0x1A2B3C4D5E6F7788

SIZE_TAG = 0
POSITION_TAG = 1


def mix64(x: int) -> int:
    """Bijective scrambling of a 64-bit integer (SplitMix64's step and finaliser)."""
    z = (x + _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def example_seed(seed: int, example_id: int, epoch: int) -> int:
    """Seed of one example in one epoch; (0, i, 0) is the published seed of row i."""
    stream = mix64(mix64(seed & _MASK) ^ (epoch & _MASK)) if seed or epoch else 0
    return mix64(_EXAMPLE_SALT ^ (example_id & _MASK) ^ stream)


def draw_seed(base: int, draw: int, tag: int) -> int:
    """Seed of draw `draw` (from 1) of an example; `tag` separates mask sizes from mask positions."""
    return mix64(base ^ ((draw * _GOLDEN) & _MASK) ^ ((tag * _TAG) & _MASK))


def hashes(seed: int, count: int) -> np.ndarray:
    """`count` uniform 64-bit integers of the SplitMix64 stream that starts at `seed`, uint64 `[count]`."""
    counter = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(seed & _MASK)
    z = (counter ^ (counter >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def permutation(seed: int, length: int) -> np.ndarray:
    """Uniform random permutation of 0..length-1 (the order of hashed keys), int64 `[length]`."""
    return np.argsort(hashes(seed, length), kind="stable").astype(np.int64)
