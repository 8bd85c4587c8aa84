"""The published seeds come out bit for bit."""

import numpy as np
import pytest

from unveil.draws import plan
from unveil.draws.splitmix import POSITION_TAG, draw_seed, example_seed, hashes, mix64, permutation

PUBLISHED_BASES = {0: 1836240733674579119, 1: 9699962801750783722, 2: 6072116915691300395}
PUBLISHED_SIZES = {
    (0, 100): [16, 30, 27, 98, 33, 13, 23, 72],
    (0, 7): [3, 2, 5, 3, 1, 1, 2, 7],
    (1, 100): [36, 74, 77, 20, 89, 55, 9, 82],
    (2, 100): [26, 13, 28, 43, 98, 84, 33, 100],
}


def test_example_seeds_are_the_published_ones():
    assert {row: example_seed(0, row, 0) for row in range(3)} == PUBLISHED_BASES


def test_position_seeds_are_the_published_ones():
    seeds = [draw_seed(PUBLISHED_BASES[0], k, POSITION_TAG) for k in (1, 2)]
    assert seeds == [3108806181078982235, 15622976677008680387]


@pytest.mark.parametrize(("row", "length"), PUBLISHED_SIZES)
def test_iid_mask_sizes_are_the_published_ones(row, length):
    drawn = plan(0, row, 0, length, 8, design="iid")
    assert [len(p) for p in drawn.positions] == PUBLISHED_SIZES[row, length]


def test_vectorised_stream_equals_the_scalar_hash():
    seed = 0xFFFFFFFFFFFFFFF0
    step = 0x9E3779B97F4A7C15
    scalar = [mix64((seed + i * step) % 2**64) for i in range(50)]
    assert hashes(seed, 50).tolist() == scalar


def test_permutations_hold_every_position_once_and_are_uniform():
    counts = np.zeros((4, 4))
    for seed in range(6000):
        order = permutation(mix64(seed), 4)
        assert sorted(order) == [0, 1, 2, 3]
        counts[np.arange(4), order] += 1
    assert np.abs(counts / 6000 - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 6000)
