"""A part of `benchmarks.coverage`: what the standard errors say holds, and the default draws are the best."""

import json
from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch

from benchmarks import coverage
from benchmarks.coverage_model import cases, exact_elbo, hidden_of, log_p_of
from unveil.draws import plan
from unveil.draws.sets import tiles
from unveil.likelihood import degrees_of_freedom, half_width, standard_error

PLANS = 150


@pytest.fixture(scope="module")
def answers():
    return {length: cases(length, 4) for length in (1, 3, 5, 12, 40)}


def test_the_exact_elbo_is_that_of_all_subsets(answers):
    length, case = 5, answers[5][0]
    subsets = [s for size in range(1, length + 1) for s in combinations(range(length), size)]
    hidden_RL = np.array([[place in subset for place in range(length)] for subset in subsets])
    weights = [1 / (len(subset) * comb(length, len(subset))) for subset in subsets]
    assert exact_elbo(case.policy) == pytest.approx(weights @ log_p_of(case.policy, hidden_RL).sum(1), abs=1e-10)
    assert case.elbo == exact_elbo(case.policy)


@pytest.mark.parametrize(("length", "num_draws"), [(5, 32), (12, 4), (12, 8), (40, 8), (40, 32)])
@pytest.mark.parametrize("design", ["quadratic_tiling", "iid", "stratified"])
def test_the_interval_of_a_design_holds_the_truth_as_often_as_it_says(answers, design, length, num_draws):
    found = coverage.cell(design, "ht", length, num_draws, answers[length], PLANS)
    assert found.state == "measured"
    assert found.holds, found


@pytest.mark.parametrize("combiner", ["hajek", "crossfit_difference"])
@pytest.mark.parametrize("length", [5, 40])
def test_other_combiners_have_errors_of_their_own(answers, combiner, length):
    found = coverage.cell("quadratic_tiling", combiner, length, 32, answers[length], PLANS)
    assert found.state == "measured"
    assert found.holds, found
    assert coverage.cell("quadratic_tiling", combiner, length, 8, answers[length], PLANS).state == "not known"


@pytest.mark.parametrize(("length", "num_draws"), [(12, 4), (12, 32), (40, 4), (40, 8)])
def test_the_error_of_the_default_is_within_a_fifth_of_the_truth(answers, length, num_draws):
    """Of these answers; at four draws, where it was 1.3 to 1.7 times too large, within a quarter."""
    found = coverage.cell("quadratic_tiling", "ht", length, num_draws, answers[length], 300)
    assert all(0.88 < ratio < (1.3 if num_draws == 4 else 1.22) for ratio in found.ratio), found


@pytest.mark.parametrize(("length", "num_draws"), [(5, 32), (5, 128), (12, 32), (40, 32)])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_error_of_tiles_sees_that_they_balance_their_tokens(length, num_draws, strength):
    """Tokens that look at others little, or not at all: their balance is most of the noise, which strata cannot see."""
    generator = np.random.default_rng(length)
    own, pull = -3 * generator.random(length), generator.standard_normal((length, length)) * strength / length**0.5
    np.fill_diagonal(pull, 0)
    visible = np.mean([(length - size) / (length - 1) for size in range(1, length + 1)])
    truth, squares, held = own.sum() + visible * pull.sum(), [], []
    for example in range(300):
        drawn = plan(11, example, 0, length, num_draws)
        hidden_KL = hidden_of([drawn], length)
        draws_K = drawn.weights / drawn.shares * ((own + ~hidden_KL @ pull.T) * hidden_KL).sum(1)
        error, miss = float(standard_error(torch.from_numpy(draws_K), drawn)), drawn.shares @ draws_K - truth
        squares.append((error**2, miss**2))
        held.append(abs(miss) <= half_width(error, degrees_of_freedom(drawn)))
    assert 0.91 < np.mean(held) < 0.985
    assert 0.87 < np.sqrt(np.divide(*np.mean(squares, axis=0))) < 1.15


@pytest.mark.parametrize("design", ["quadratic_tiling", "windows"])
def test_what_tiles_differ_by_in_a_straight_line_is_no_error(design):
    drawn = plan(0, 3, 0, 40, 32, design)
    line_K = (tiles(32) - 3.5) / np.bincount(tiles(32))[0]  # what each draw adds; the totals sum to 0
    error = standard_error(torch.from_numpy(line_K / drawn.shares), drawn)
    assert float(error) == pytest.approx(0, abs=1e-6)
    assert degrees_of_freedom(drawn) == 8 - 2


def test_tiles_whose_draws_share_a_size_are_not_taken_for_independent():
    """Two masks of a size lie in two tiles; the sizes tell, as they did."""
    one, shared = plan(0, 3, 0, 40, 24, "quadratic"), plan(0, 3, 0, 40, 48, masks_per_size=2)
    assert degrees_of_freedom(shared) == pytest.approx(degrees_of_freedom(one))


@pytest.mark.parametrize("design", ["quadratic_tiling", "windows", "quadratic"])
def test_what_few_draws_do_not_tell_is_not_known(answers, design):
    for length, num_draws in ((3, 4), (5, 4), (12, 1), (12, 2), (40, 2)):
        assert coverage.cell(design, "ht", length, num_draws, answers[length], 20).state == "not known"
    assert coverage.cell(design, "ht", 1, 2, answers[1], 20).state == "exact"


@pytest.mark.parametrize("combiner", ["hajek", "crossfit_difference"])
@pytest.mark.parametrize("design", ["quadratic_tiling", "mirrored_stratified"])
def test_the_error_of_another_combiner_is_not_known_of_answers_of_three_tokens(answers, design, combiner):
    """Draws of so few tokens repeat one another: the error was 1.2 to 1.5 times the truth."""
    assert coverage.cell(design, combiner, 3, 32, answers[3], 20).state == "not known"
    assert coverage.cell(design, combiner, 12, 32, answers[12], 20).state == "measured"


@pytest.mark.parametrize("num_draws", [1, 2, 3])
def test_fewer_draws_than_a_tile_are_those_of_quadratic(num_draws):
    drawn = [plan(3, 5, 0, 40, num_draws, design) for design in ("quadratic_tiling", "quadratic")]
    assert all(np.array_equal(one, other) for one, other in zip(*(p.positions for p in drawn)))


@pytest.mark.parametrize(
    ("length", "num_draws"), [(3, 8), (5, 4), (5, 7), (12, 4), (12, 32), (12, 128), (40, 4), (40, 8)]
)
def test_the_default_is_at_least_as_good_as_iid_and_quadratic_at_any_number_of_draws(answers, length, num_draws):
    """Mean squared errors of B and of the margin; 15 % is what as many plans leave uncertain."""
    errors = {}
    for design in ("quadratic_tiling", "quadratic", "iid"):
        drawn = [plan(3, example, 0, length, num_draws, design) for example in range(PLANS)]
        hidden_RL, weights = hidden_of(drawn, length), np.concatenate([one.weights for one in drawn])
        errors[design] = np.zeros(2)
        for case in answers[length]:
            sums = [(weights * log_p_of(t, hidden_RL).sum(1)).reshape(PLANS, -1).sum(1) for t in case[:2]]
            errors[design] += [((sums[0] - case.elbo) ** 2).mean(), ((sums[0] - sums[1] - case.margin) ** 2).mean()]
    assert (errors["quadratic_tiling"] <= 1.15 * errors["quadratic"]).all()
    assert (errors["quadratic_tiling"] <= 1.15 * errors["iid"]).all()


def test_the_command_prints_a_table_and_one_json_object(capsys, tmp_path):
    assert coverage.main(["--quick", "--output_dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    report = json.loads(lines[-1])
    assert report["cells"] == report["measured"] + report["not_known"] + report["exact"]
    assert (tmp_path / "coverage.md").read_text().startswith("| design | combiner | tokens | 4 draws |")
