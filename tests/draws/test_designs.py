"""What each design promises of its sizes and sets, which counts it serves, and what plans may share."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unveil.draws import DESIGNS, check_design, nests, plan
from unveil.errors import UserError

lengths, examples = st.integers(1, 300), st.integers(0, 2**40)


def sizes_of(drawn) -> list[int]:
    return [len(hidden) for hidden in drawn.positions]


# Frozen: a change of these is a change of everybody's draws.
FROZEN = {
    "quadratic_tiling": [[3], [8], [1, 2, 7], [0, 2, 3, 4, 5, 6, 7, 8]],
    "iid": [[0, 3, 4, 6, 8], [0, 1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 7], [2, 4, 7]],
}


@pytest.mark.parametrize("design", FROZEN)
def test_the_plans_of_a_first_release_are_drawn_again(design):
    assert [hidden.tolist() for hidden in plan(1, 2, 3, 9, 4, design).positions] == FROZEN[design]


@given(lengths, examples, st.integers(1, 12))
def test_strata_give_one_size_to_each_part_of_the_ratio(length, example, draws):
    for design, exponent in (("stratified", 1), ("windows", 1), ("systematic", 1), ("quadratic", 2)):
        drawn = plan(0, example, 0, length, draws, design)
        for k, size in enumerate(sizes_of(drawn)):
            low, high = (k / draws) ** exponent, ((k + 1) / draws) ** exponent
            assert math.floor(low * length - 1e-6) + 1 <= size <= math.floor(high * length + 1e-6) + 1
            assert drawn.shares[k] == pytest.approx(high - low, abs=1e-9)


@given(lengths, examples, st.integers(1, 6))
def test_quadratic_strata_are_those_of_the_tiling_design_with_other_sets(length, example, draws):
    tiled, apart = (plan(0, example, 0, length, draws, design) for design in ("quadratic_tiling", "quadratic"))
    assert sizes_of(tiled) == sizes_of(apart)
    np.testing.assert_array_equal(tiled.weights, apart.weights)


@given(lengths, examples, st.integers(2, 12))
def test_systematic_sizes_are_equally_spaced(length, example, draws):
    sizes = sizes_of(plan(0, example, 0, length, draws, "systematic"))
    assert all(math.floor(length / draws) <= b - a <= math.ceil(length / draws) for a, b in pairwise(sizes))


@given(st.integers(2, 200), examples)
def test_mirrored_pairs_have_one_size_and_overlap_no_more_than_they_must(length, example):
    for design in ("mirrored", "mirrored_stratified"):
        drawn = plan(0, example, 0, length, 4, design)
        for first, last in (drawn.positions[:2], drawn.positions[2:]):
            assert len(first) == len(last)
            assert len(np.intersect1d(first, last)) == max(0, 2 * len(first) - length)
        assert drawn.groups.tolist() == [0, 0, 1, 1]


@given(st.integers(1, 40), examples, st.integers(1, 4))
def test_coupled_pairs_cover_every_token_once_and_an_empty_side_costs_no_row(length, example, pairs):
    drawn = plan(0, example, 0, length, 2 * pairs, "coupled")
    assert drawn.sizes_drawn == pairs
    assert len(drawn.groups) == len(drawn.positions) == len(drawn.weights)
    for pair in range(pairs):
        mine = np.flatnonzero(drawn.groups == pair)
        assert np.sort(np.concatenate([drawn.positions[k] for k in mine])).tolist() == list(range(length))
        for k in mine:
            assert drawn.weights[k] == pytest.approx((length + 1) / (2 * pairs * len(drawn.positions[k])))


def test_coupled_pairs_do_have_empty_sides():
    counts = {len(plan(0, example, 0, 2, 2, "coupled").positions) for example in range(30)}
    assert counts == {1, 2}


def test_harmonic_draws_weigh_the_same_whatever_their_size():
    drawn = plan(0, 0, 0, 50, 8, "harmonic")
    np.testing.assert_allclose(drawn.weights, sum(1 / size for size in range(1, 51)) / 8, rtol=1e-9)
    assert len(set(sizes_of(drawn))) > 1


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 0.5, 1.0, 3.0])
def test_importance_sizes_follow_their_law_and_shares_undo_it(exponent):
    length, repeats = 6, 1500
    law = np.arange(1, length + 1) ** -exponent
    law /= law.sum()
    counts = np.zeros(length)
    for example in range(repeats):
        drawn = plan(0, example, 0, length, 4, "importance", size_exponent=exponent)
        for size, share in zip(sizes_of(drawn), drawn.shares):
            counts[size - 1] += 1
            assert share == pytest.approx(1 / (4 * length * law[size - 1]), rel=1e-9)
    z = (counts / (4 * repeats) - law) / np.sqrt(law * (1 - law) / (4 * repeats))
    assert np.abs(z).max() < 4


def test_a_steep_law_still_gives_every_size_a_chance():
    drawn = plan(0, 0, 0, 4096, 64, "importance", size_exponent=4.0)
    assert np.isfinite(drawn.weights).all()
    assert (drawn.weights > 0).all()


def test_every_subset_once_with_its_weight_in_the_exact_elbo():
    drawn = plan(0, 0, 0, 4, 1, "all_subsets")
    assert len({tuple(hidden.tolist()) for hidden in drawn.positions}) == len(drawn.positions) == 15
    for hidden, weight in zip(drawn.positions, drawn.weights):
        assert weight == pytest.approx(1 / (len(hidden) * math.comb(4, len(hidden))), rel=1e-12)


@pytest.mark.parametrize("design", DESIGNS)
def test_masks_that_share_a_size_come_in_groups(design):
    unit = DESIGNS[design].draws_per_unit
    if not unit:
        with pytest.raises(UserError, match="give --num_draws 1 --masks_per_size 1"):
            plan(0, 0, 0, 9, 2, design, masks_per_size=2)
        return
    drawn = plan(0, 3, 0, 30, 6 * unit, design, masks_per_size=3)
    assert drawn.sizes_drawn == 2
    for group in (0, 1):
        sizes = {len(drawn.positions[k]) for k in np.flatnonzero(drawn.groups == group)}
        assert len(sizes) == 1 or (design == "coupled" and sum(sizes) == 30)


@pytest.mark.parametrize("design", [name for name in DESIGNS if nests(name)])
def test_first_draws_of_a_nesting_plan_are_the_plan_of_fewer(design):
    many, few = plan(0, 5, 0, 50, 8, design), plan(0, 5, 0, 50, 4, design)
    assert all(np.array_equal(a, b) for a, b in zip(many.positions, few.positions))
    np.testing.assert_allclose(few.weights, 2 * many.weights[:4], rtol=1e-12)


def test_other_designs_do_not_nest():
    assert {name for name in DESIGNS if nests(name)} == {"iid", "mirrored", "harmonic", "importance"}
    for design in (name for name, known in DESIGNS.items() if known.draws_per_unit and not nests(name)):
        many, few = plan(0, 5, 0, 50, 8, design), plan(0, 5, 0, 50, 4, design)
        same = len(few.positions) == 4 and np.allclose(few.weights, 2 * many.weights[:4])
        assert design == "coupled" or not same


@pytest.mark.parametrize("design", [name for name, known in DESIGNS.items() if known.draws_per_unit])
def test_a_pair_may_share_its_mask_ratios_and_no_more(design):
    """u is common: sizes agree to the rounding of l = floor(u L) + 1; sets are independent."""
    shared = [plan(0, example, 0, 1000, 8, design, size_id=70) for example in (70, 71)]
    assert sizes_of(shared[0]) == sizes_of(shared[1])
    assert not any(
        np.array_equal(a, b) for a, b in zip(shared[0].positions, shared[1].positions) if len(a) not in (0, 1000)
    )
    alone = [plan(0, example, 0, 1000, 8, design) for example in (70, 71)]
    assert (sizes_of(alone[0]) != sizes_of(alone[1])) == (design != "quadrature")
    if design not in ("harmonic", "importance"):  # their law depends on L
        short, long = (sizes_of(plan(0, e, 0, n, 8, design, size_id=70)) for e, n in ((70, 100), (71, 1000)))
        assert np.abs(np.array(short) / 100 - np.array(long) / 1000).max() <= 0.02


def test_sharing_sizes_with_oneself_changes_the_published_remainder_only():
    """`iid` takes the hash modulo L as published; a shared u must be monotone in it."""
    for design in ("quadratic_tiling", "stratified", "harmonic", "systematic"):
        alone, named = plan(0, 4, 0, 60, 4, design), plan(0, 4, 0, 60, 4, design, size_id=4)
        assert all(np.array_equal(a, b) for a, b in zip(alone.positions, named.positions))
    named = plan(0, 4, 0, 60, 4, "iid", size_id=4)
    assert sizes_of(named) != sizes_of(plan(0, 4, 0, 60, 4, "iid"))


def test_shared_iid_sizes_are_uniform():
    counts = np.zeros(6)
    for example in range(3000):
        for size in sizes_of(plan(0, 0, 0, 5, 2, "iid", size_id=example)):
            counts[size] += 1
    assert np.abs(counts[1:] / 6000 - 0.2).max() < 4 * math.sqrt(0.16 / 6000)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mirrored", 7, 1), "--draw_design mirrored: draws come in pairs, so that --num_draws 7 cannot be served; "
         "--num_draws 6 or 8 would be"),
        (("coupled", 1, 1), "--num_draws 1 cannot be served; --num_draws 2 would be"),
        (("mirrored_stratified", 6, 2), "--masks_per_size 2: must divide the pairs of --num_draws 6"),
        (("stratified", 6, 4), "--masks_per_size 4: must divide --num_draws 6"),
        (("all_subsets", 8, 1), "--draw_design all_subsets: the number of rows follows from the answer's length, so "
         "that --num_draws 8 --masks_per_size 1 cannot be served; give --num_draws 1 --masks_per_size 1"),
        (("left_to_right", 1, 2), "--draw_design left_to_right"),
        (("importance", 4, 1, 2.0, 9.0), "--size_exponent 9.0: must lie between -4 and 4"),
        (("importance", 4, 1, 2.0, math.nan), "--size_exponent nan"),
        (("quadratic", 4, 1, 0.0), "--strata_exponent 0.0: must be above 0"),
        (("sobol", 4, 1), "--draw_design sobol: unknown; choose one of quadratic_tiling, iid, quadratic"),
    ],
)  # fmt: skip
def test_designs_that_cannot_serve_say_what_would(arguments, said):
    with pytest.raises(UserError, match=re.escape(said)):
        check_design(*arguments)


def test_answers_too_long_to_enumerate_are_named():
    with pytest.raises(UserError, match="example 7: 13 scored tokens have too many subsets; --draw_design all_subsets"):
        plan(0, 7, 0, 13, 1, "all_subsets")


def test_every_design_has_its_line():
    assert all(len(design.summary) > 20 and "\n" not in design.summary for design in DESIGNS.values())
