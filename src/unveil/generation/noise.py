"""Counter-based randomness: every random number is an integer hash of what it is for.

There is no generator and no state. A number depends on (seed, prompt index, step, position, token) and on nothing
else: not on the batch, not on the device (integer arithmetic is the same everywhere), not on how many numbers were
asked for before. The hash is SplitMix64 (Steele, Lea, Flood 2014), as in `unveil.draws`, but on tensors: int64 that
wrap around.
"""

import torch
from torch import Tensor


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser, a bijection of 64-bit words. x: int64, any shape. Returns a new tensor."""
    x = (x >> 30).bitwise_and_((1 << 34) - 1).bitwise_xor_(x).mul_(_FIRST)
    x ^= (x >> 27).bitwise_and_((1 << 37) - 1)
    x *= _SECOND
    x ^= (x >> 31).bitwise_and_((1 << 33) - 1)
    return x


def subkeys(keys: Tensor, counters: Tensor) -> Tensor:
    """One key per (key, counter), broadcast: element `counters` (>= 0) of the SplitMix64 sequence from `keys`."""
    return mix(keys + (counters + 1) * _GOLDEN)


def prompt_keys(seed: int, indices: Tensor) -> Tensor:
    """The key of every prompt. indices: int64 [N]. Returns int64 [N]."""
    return subkeys(mix(torch.tensor([seed], dtype=torch.int64) ^ _GOLDEN), indices)


def gumbel(keys_N1: Tensor, tokens: Tensor) -> Tensor:
    """Standard Gumbel noise for each (key, token), float64, broadcast.

    keys_N1: int64 [N, 1]; tokens: int64 [V] or [N, K]. The 52 bits of a uniform number sit in the middle of their
    cells, so neither 0 nor 1 occurs and all noise is finite.
    """
    bits = subkeys(keys_N1, tokens).bitwise_right_shift_(12).bitwise_and_((1 << 52) - 1)
    return bits.double().add_(0.5).mul_(2.0**-52).log_().neg_().log_().neg_()
