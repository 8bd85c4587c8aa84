"""A plan is a pure function of integers whose estimator has the right mean."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unveil.draws import DESIGNS, plan
from unveil.draws.sets import tiles
from unveil.errors import UserError

# Designs that serve any number of draws; the others stand in test_designs.py.
ANY_COUNT = [name for name, design in DESIGNS.items() if design.draws_per_unit == 1]
designs = st.sampled_from(ANY_COUNT)
FIXED_SHARES = [name for name in ANY_COUNT if not DESIGNS[name].random_shares]


def subset_weight(size: int, length: int) -> float:
    """w(M) = 1 / (l C(L, l)): the coefficient of S(M) in the exact ELBO."""
    return 1.0 / (size * math.comb(length, size))


def all_subsets(length: int):
    return itertools.chain.from_iterable(itertools.combinations(range(length), size) for size in range(1, length + 1))


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_subset_weights_of_the_exact_elbo_give_every_token_weight_one(length):
    totals = np.zeros(length)
    for subset in all_subsets(length):
        totals[list(subset)] += subset_weight(len(subset), length)
    np.testing.assert_allclose(totals, 1.0, atol=1e-12)


@given(designs, st.integers(1, 300), st.integers(1, 16), st.integers(0, 2**63), st.integers(0, 50))
def test_sets_are_sorted_without_replacement_inside_the_response(design, length, draws, example, epoch):
    drawn = plan(3, example, epoch, length, draws, design)
    assert len(drawn.positions) == draws == len(drawn.weights)
    for positions, weight, share in zip(drawn.positions, drawn.weights, drawn.shares):
        assert 1 <= len(positions) <= length
        assert np.all(np.diff(positions) > 0)
        assert positions[0] >= 0
        assert positions[-1] < length
        assert weight == pytest.approx(share * length / len(positions))
    if design in FIXED_SHARES:
        assert drawn.shares.sum() == pytest.approx(1.0, abs=1e-12)


@given(st.integers(4, 300), st.integers(4, 40), st.integers(0, 10_000))
def test_the_sets_of_a_tile_cover_a_position_at_most_once_more_than_another(length, draws, example):
    drawn = plan(0, example, 0, length, draws)
    for tile in np.unique(tiles(draws)):
        covered = np.zeros(length, dtype=int)
        for k in np.flatnonzero(tiles(draws) == tile):
            covered[drawn.positions[k]] += 1
        assert covered.max() - covered.min() <= 1


@pytest.mark.parametrize("draws", range(1, 130))
def test_tiles_have_four_draws_or_a_few_more_and_equal_shares(draws):
    """So that no tile stands for more of the mask ratios than another; fewer than four draws are left independent."""
    of_draw = tiles(draws)
    if draws < 4:
        assert of_draw.tolist() == list(range(draws))
        return
    counts = np.bincount(of_draw)
    assert len(counts) == draws // 4
    assert counts.min() >= 4
    assert counts.max() <= 7
    shares = np.bincount(of_draw, weights=np.diff((np.arange(draws + 1) / draws) ** 2)) * len(counts)
    assert np.abs(shares - 1).max() < (1e-9 if draws % 4 == 0 else 0.1)


def test_tiles_have_orders_of_their_own():
    """Companions of a draw are not those of the draws before it: the fault of windows of one permutation."""
    length, together = 40, np.zeros((40, 40))
    drawn = plan(0, 0, 0, length, 512)
    for positions in drawn.positions:
        together[np.ix_(positions, positions)] += 1
    pairs = together[np.triu_indices(length, 1)]
    assert pairs.std() < 0.1 * pairs.mean()


@pytest.mark.parametrize("design", ["quadratic_tiling", "iid"])
@pytest.mark.parametrize("masks_per_size", [1, 2])
def test_estimator_is_unbiased_for_an_arbitrary_set_function(design, masks_per_size):
    """z-test against enumeration: B = sum_M w(M) S(M) with S an arbitrary function of the set."""
    length, draws, repeats = 5, 4, 15_000
    generator = np.random.default_rng(7)
    table = {subset: generator.normal(-3, 2) for subset in all_subsets(length)}
    exact = sum(subset_weight(len(s), length) * value for s, value in table.items())
    estimates = np.empty(repeats)
    for example in range(repeats):
        drawn = plan(11, example, 0, length, draws, design, masks_per_size)
        estimates[example] = sum(w * table[tuple(p.tolist())] for w, p in zip(drawn.weights, drawn.positions))
    z = (estimates.mean() - exact) / (estimates.std(ddof=1) / math.sqrt(repeats))
    assert abs(z) < 4


@pytest.mark.parametrize("design", [name for name, design in DESIGNS.items() if design.draws_per_unit])
def test_each_position_is_hidden_as_often_as_any_other_given_the_size(design):
    length, repeats = 6, 4_000
    hidden = np.zeros((length + 1, length))
    drawn_sizes = np.zeros(length + 1)
    for example in range(repeats):
        positions = plan(0, example, 0, length, 2, design).positions[-1]
        hidden[len(positions), positions] += 1
        drawn_sizes[len(positions)] += 1
    for size in range(1, length + 1):
        if drawn_sizes[size] < 200:
            continue
        rate = hidden[size] / drawn_sizes[size]
        sd = math.sqrt(max(size / length * (1 - size / length), 1e-12) / drawn_sizes[size])
        assert np.abs(rate - size / length).max() < 5 * sd + 1e-12


def test_size_law_is_uniform_where_rounding_half_to_even_is_not():
    """L = 7 with two systematic sizes: the published rounding is up to 50 % off; floor(u L) + 1 is exact."""
    counts = np.zeros(8)
    repeats = 12_000
    for example in range(repeats):
        drawn = plan(0, example, 0, 7, 2, strata_exponent=1.0)
        for positions, share in zip(drawn.positions, drawn.shares):
            counts[len(positions)] += share
    assert np.abs(counts[1:] / repeats - 1 / 7).max() < 4 * math.sqrt(1 / 7 * 6 / 7 / repeats)


def test_iid_prefixes_nest_and_draws_of_another_epoch_or_seed_differ():
    eight, four = plan(0, 5, 0, 50, 8, "iid"), plan(0, 5, 0, 50, 4, "iid")
    assert all(np.array_equal(a, b) for a, b in zip(eight.positions, four.positions))
    for other in (plan(0, 5, 1, 50, 4, "iid"), plan(1, 5, 0, 50, 4, "iid"), plan(0, 6, 0, 50, 4, "iid")):
        assert not all(np.array_equal(a, b) for a, b in zip(other.positions, four.positions))


def test_masks_that_share_a_size_have_equal_sizes_and_different_positions():
    drawn = plan(0, 0, 0, 40, 8, "iid", masks_per_size=4)
    sizes = [len(p) for p in drawn.positions]
    assert sizes[:4] == [sizes[0]] * 4
    assert sizes[4:] == [sizes[4]] * 4
    assert not np.array_equal(drawn.positions[0], drawn.positions[1])
    assert drawn.sizes_drawn == 2


def test_one_token_is_scored_exactly_by_every_draw():
    for design, known in DESIGNS.items():
        drawn = plan(0, 3, 0, 1, 4 if known.draws_per_unit else 1, design)
        assert all(p.tolist() == [0] for p in drawn.positions)
        assert drawn.weights.sum() == pytest.approx(1.0, abs=1e-12)


def test_another_process_draws_the_same_plan():
    code = "from unveil.draws import plan; print([p.tolist() for p in plan(9, 8, 7, 60, 4).positions])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str([p.tolist() for p in plan(9, 8, 7, 60, 4).positions])


def test_plans_need_no_torch():
    code = "import sys, unveil.draws; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        ({"num_draws": 0}, "--num_draws"),
        ({"num_draws": 4, "design": "sobol"}, "--draw_design"),
        ({"num_draws": 4, "masks_per_size": 3}, "--masks_per_size"),
    ],
)
def test_impossible_plans_name_the_flag(arguments, flag):
    with pytest.raises(UserError, match=flag):
        plan(0, 0, 0, 10, **arguments)


def test_a_response_without_tokens_has_no_plan():
    with pytest.raises(ValueError, match="example 4"):
        plan(0, 4, 0, 0, 4)
