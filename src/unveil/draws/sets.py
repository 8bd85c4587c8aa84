"""Set laws: which positions each draw hides, given its size. Every law makes each set uniform given its size."""

from typing import NamedTuple

import numpy as np

from unveil.draws.sizes import subsets
from unveil.draws.splitmix import POSITION_TAG, draw_seed, permutation

_DRAWS_PER_TILE = 4


class Sets(NamedTuple):
    """Sorted int64 positions that each draw scores, and (per draw, where any) those it hides without scoring them."""

    positions: tuple[np.ndarray, ...]
    also_hidden: tuple[np.ndarray, ...] = ()


def independent(base: int, length: int, sizes: np.ndarray) -> Sets:
    """A fresh permutation per draw; its first l entries are the hidden set."""
    seeds = (draw_seed(base, k, POSITION_TAG) for k in range(1, len(sizes) + 1))
    return Sets(tuple(np.sort(permutation(seed, length)[:size]) for seed, size in zip(seeds, sizes)))


def tiling(base: int, length: int, sizes: np.ndarray) -> Sets:
    """Balanced sets: each draw hides the tokens that its tile has hidden least often so far, ties in a random order.

    A tile is about four draws that reach from small masks to large ones (`tiles`). It hides every token once or twice,
    so that its total sees all tokens almost equally often. Ties are broken afresh in every draw, and tiles know nothing
    of one another, hence their noise averages out however many there are: windows of one permutation would repeat that
    order's neighbours for ever. Tokens are treated alike, so each set is uniform given its size.
    """
    tiles_of_draws = tiles_of(length, len(sizes))
    if tiles_of_draws is None:
        return independent(base, length, sizes)
    hidden = np.zeros((len(sizes), length), dtype=np.int64)
    found = []
    for k, (tile, size) in enumerate(zip(tiles_of_draws, sizes), start=1):
        order = permutation(draw_seed(base, k, POSITION_TAG), length)
        chosen = order[np.argsort(hidden[tile][order], kind="stable")[:size]]
        hidden[tile][chosen] += 1
        found.append(np.sort(chosen))
    return Sets(tuple(found))


def tiles_of(length: int, count: int) -> np.ndarray | None:
    """The tile of each of `count` draws of `length` tokens, int64 `[count]`; None where sets are independent.

    An answer of up to three tokens has up to seven sets. As many balanced draws would use them so evenly that no error
    could be told from them; these sets are independent.
    """
    return None if length <= 3 and count >= 2**length - 1 else tiles(count)


def tiles(count: int) -> np.ndarray:
    """The tile of each of `count` draws in order of size, int64 `[count]`: count // 4 tiles of four draws or more.

    Rounds of one draw per tile go through the draws from the largest down, forwards or backwards as the Thue-Morse
    sequence says (+ - - +), which gives all tiles the same share and nearly the same sizes. Fewer than four draws do
    not hide every token; each is a tile of its own, that is, independent.
    """
    if count < _DRAWS_PER_TILE:
        return np.arange(count)
    number = count // _DRAWS_PER_TILE
    turns, places = np.divmod(np.arange(count)[::-1], number)
    backwards = np.array([int(turn).bit_count() % 2 == 1 for turn in turns])
    return np.where(backwards, number - 1 - places, places)


def mirrored(base: int, length: int, sizes: np.ndarray) -> Sets:
    """Two draws per size: the first l and the last l of one permutation (discrete MIRROR, arXiv 2511.18159)."""
    return Sets(_pairs(base, length, sizes, [length - size for size in sizes]))


def complementary(base: int, length: int, sizes: np.ndarray) -> Sets:
    """Two draws per size: a set and its complement; one of them is empty when l is 0 or L."""
    return Sets(_pairs(base, length, sizes, sizes))


def every_subset(base: int, length: int, sizes: np.ndarray) -> Sets:
    """All of them; nothing is random."""
    return Sets(tuple(np.array(subset, dtype=np.int64) for subset in subsets(length)))


def left_to_right(base: int, length: int, sizes: np.ndarray) -> Sets:
    """Row j scores token j and hides all that follow it."""
    order = np.arange(length)
    return Sets(tuple(order[j : j + 1] for j in order), tuple(order[j + 1 :] for j in order))


def _pairs(base: int, length: int, heads, tails) -> tuple[np.ndarray, ...]:
    """The first `heads[k]` entries and all from `tails[k]` on of the k-th permutation."""
    found = []
    for k, (head, tail) in enumerate(zip(heads, tails), start=1):
        order = permutation(draw_seed(base, k, POSITION_TAG), length)
        found += [np.sort(order[:head]), np.sort(order[tail:])]
    return tuple(found)
