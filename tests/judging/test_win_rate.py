"""Win rates against closed forms, and the coverage of their intervals."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unveil.errors import UserError
from unveil.judging import WinRate, adjusted_win_rate, bootstrap_interval, cluster_means, mean_interval
from unveil.judging.win_rate import mean_quantile

Z = 1.959963984540054


def test_ties_count_half():
    result = adjusted_win_rate([1, 1, 1, 0.5, 0.5, 0, 1, 0])
    assert (result.wins, result.ties, result.losses, result.n) == (4, 2, 2, 8)
    assert result.rate == 5 / 8


def test_the_interval_is_agresti_coull_without_ties():
    wins, n = 30, 45
    result = adjusted_win_rate([1] * wins + [0] * (n - wins))
    centre = (wins + Z**2 / 2) / (n + Z**2)
    half = Z * math.sqrt(centre * (1 - centre) / (n + Z**2))
    assert math.isclose(result.low, centre - half, rel_tol=1e-12)
    assert math.isclose(result.high, centre + half, rel_tol=1e-12)


def test_the_interval_of_a_large_sample_is_the_normal_one():
    outcomes = np.array([1.0] * 5000 + [0.5] * 2000 + [0.0] * 3000)
    half = Z * outcomes.std() / 100
    result = adjusted_win_rate(outcomes)
    assert abs(result.low - (0.6 - half)) < 1e-4
    assert abs(result.high - (0.6 + half)) < 1e-4


@pytest.mark.parametrize("n", [1, 5, 200])
def test_equal_outcomes_have_the_exact_bound(n):
    bound = 0.025 ** (1 / n)
    wins, ties, losses = (adjusted_win_rate([outcome] * n) for outcome in (1, 0.5, 0))
    assert (wins.rate, wins.high) == (1, 1)
    assert math.isclose(wins.low, bound)  # Clopper and Pearson
    assert (losses.rate, losses.low) == (0, 0)
    assert math.isclose(losses.high, 1 - bound)
    assert math.isclose(ties.low, bound / 2)
    assert math.isclose(ties.high, 1 - bound / 2)


@pytest.mark.parametrize(("n", "worst"), [(10, 0.91), (30, 0.93), (60, 0.93)])
def test_coverage_is_near_the_level_for_all_win_and_tie_rates(n, worst):
    # Exact: sums over all possible counts. The worst case and the average are what the docstring promises.
    wins, ties = (grid.ravel() for grid in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    wins, ties = wins[wins + ties <= n], ties[wins + ties <= n]
    losses = n - wins - ties
    intervals = [
        adjusted_win_rate(np.repeat([1.0, 0.5, 0.0], counts)) for counts in zip(wins, ties, losses, strict=True)
    ]
    low, high = np.array([(one.low, one.high) for one in intervals]).T
    log_factorial = np.cumsum(np.log(np.maximum(1, np.arange(n + 1))))
    log_ways = log_factorial[n] - log_factorial[wins] - log_factorial[ties] - log_factorial[losses]
    coverage = []
    for win, tie in product(np.arange(0.02, 0.99, 0.04), (1e-9, 0.1, 0.3, 0.6, 0.9)):
        loss = 1 - win - tie
        if loss <= 0.005:
            continue
        mass = np.exp(log_ways + wins * np.log(win) + ties * np.log(tie) + losses * np.log(loss))
        mean = win + tie / 2
        coverage.append(mass[(low <= mean) & (mean <= high)].sum())
    assert len(coverage) > 70
    assert min(coverage) > worst
    assert 0.95 < np.mean(coverage) < 0.98


def outcome_rates(step: float) -> np.ndarray:
    """Win, tie and loss rates on a grid, [R, 3]."""
    parts = round(1 / step)
    return np.array([(i, j, parts - i - j) for i in range(parts + 1) for j in range(parts + 1 - i)]) / parts


@pytest.mark.parametrize(("n", "worst", "where"), [(10, 0.9298, (0.9, 0.0)), (30, 0.9338, (0.0, 0.26))])
def test_the_worst_coverage_is_what_the_docstring_says(n, worst, where):
    """Exact, on a grid of 0.02 with its edges: only wins and ties, no ties, no wins."""
    counts = np.array([(w, t, n - w - t) for w in range(n + 1) for t in range(n + 1 - w)])
    low, high = np.array([mean_interval(np.repeat([1.0, 0.5, 0.0], row)) for row in counts]).T
    ways = np.array([math.factorial(n) / math.prod(map(math.factorial, row)) for row in counts.tolist()])
    rates = outcome_rates(0.02)
    mass = ways * np.prod(rates[:, None] ** counts, axis=-1)  # [R, outcomes]
    truth = (rates @ [1.0, 0.5, 0.0])[:, None]
    coverage = np.where((low <= truth + 1e-9) & (truth - 1e-9 <= high), mass, 0.0).sum(1)
    mirrored = (1 - sum(where), where[1])
    np.testing.assert_allclose(mass.sum(1), 1.0)
    assert coverage.min() == pytest.approx(worst, abs=1e-4)
    assert any(rates[coverage.argmin(), :2] == pytest.approx(place) for place in (where, mirrored))


def test_the_interval_reaches_further_only_where_the_variance_must_be_estimated():
    coin = np.repeat([1.0, 0.0], [30, 15])
    assert math.isclose(mean_quantile(coin), Z, rel_tol=1e-12)
    tied = np.repeat([1.0, 0.5, 0.0], [10, 30, 5])
    assert Z < mean_quantile(tied) < 2.0154  # Student's with 44 degrees of freedom
    assert mean_quantile(np.tile(tied, 100)) == pytest.approx(Z, abs=1e-3)


def test_coverage_holds_when_seeds_of_a_prompt_are_correlated():
    generator = np.random.default_rng(0)
    prompts, seeds, runs = 40, 4, 2000
    labels = np.repeat(np.arange(prompts), seeds)
    chance = generator.choice([0.1, 0.5, 0.9], p=[0.2, 0.3, 0.5], size=(runs, prompts))
    outcomes = (generator.random((runs, prompts, seeds)) < chance[..., None]).astype(float).reshape(runs, -1)
    truth = 0.2 * 0.1 + 0.3 * 0.5 + 0.5 * 0.9

    def coverage(clusters):
        results = [adjusted_win_rate(row, clusters) for row in outcomes]
        return np.mean([one.low <= truth <= one.high for one in results])

    assert 0.935 < coverage(labels.tolist()) < 0.975
    assert coverage(None) < 0.9  # what goes wrong without clusters


def test_seeds_of_a_prompt_are_one_observation():
    outcomes = [1, 0, 1, 0.5, 0, 0]
    labels = ["x", "x", "y", "y", "z", "x"]
    result = adjusted_win_rate(outcomes, labels)
    assert result.n == 3
    assert math.isclose(result.rate, (1 / 3 + 3 / 4 + 0) / 3)
    assert (result.wins, result.ties, result.losses) == (2, 1, 3)


def test_repeating_every_outcome_does_not_narrow_the_interval():
    outcomes = [1, 0, 0.5, 1, 1, 0, 1]
    once = adjusted_win_rate(outcomes)
    thrice = adjusted_win_rate(outcomes * 3, list(range(7)) * 3)
    assert (thrice.rate, thrice.low, thrice.high) == pytest.approx((once.rate, once.low, once.high))


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_holds_the_rate_lies_in_the_unit_and_mirrors(outcomes, level):
    result = adjusted_win_rate(outcomes, level=level)
    assert 0 <= result.low <= result.rate <= result.high <= 1
    assert result.low < result.high
    mirrored = adjusted_win_rate([1 - outcome for outcome in outcomes], level=level)
    assert mirrored.low == pytest.approx(1 - result.high)
    assert mirrored.high == pytest.approx(1 - result.low)


def test_a_higher_level_is_wider():
    outcomes = [1, 0, 1, 1, 0.5] * 10
    narrow, wide = adjusted_win_rate(outcomes, level=0.8), adjusted_win_rate(outcomes, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_describe_says_whether_the_rate_differs_from_even():
    better = adjusted_win_rate([1] * 70 + [0.5] + [0] * 29)
    assert better.describe() == (
        f"win rate 0.705 (95% interval {better.low:.3f} to {better.high:.3f}, "
        "100 prompts: 70 wins, 1 tie, 29 losses), better than even"
    )
    assert adjusted_win_rate([0] * 70 + [1] * 30).describe().endswith("worse than even")
    unsure = adjusted_win_rate([1])
    assert unsure.describe() == (
        "win rate 1.000 (95% interval 0.025 to 1.000, 1 prompt: 1 win, 0 ties, 0 losses), no difference shown"
    )
    assert isinstance(unsure, WinRate)


def test_cluster_means_keep_columns_and_order_of_appearance():
    values = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    assert cluster_means(values, ["b", "a", "b"]).tolist() == [[2.0, 20.0], [2.0, 20.0]]
    assert cluster_means(values[:, 0], [7, 8, 9]).tolist() == [1.0, 2.0, 3.0]


def test_the_bootstrap_of_a_mean_is_near_the_normal_interval_and_repeats_itself():
    values = np.random.default_rng(0).normal(2.0, 3.0, size=400)
    low, high = bootstrap_interval(values, resamples=4000)
    half = Z * values.std() / 20
    assert abs(low - (values.mean() - half)) < 0.1 * half
    assert abs(high - (values.mean() + half)) < 0.1 * half
    assert (low, high) == bootstrap_interval(values, resamples=4000)
    assert (low, high) != bootstrap_interval(values, resamples=4000, seed=1)


def test_the_bootstrap_keeps_pairs_together():
    generator = np.random.default_rng(0)
    shared = generator.normal(0, 10, size=(200, 1))
    pairs = shared + generator.normal(0, 0.1, size=(200, 2)) + [0.05, 0.0]

    def width(rows):
        low, high = bootstrap_interval(rows, lambda rows: float(rows[:, 0].mean() - rows[:, 1].mean()))
        return high - low

    broken = np.column_stack([pairs[:, 0], np.roll(pairs[:, 1], 1)])
    assert width(pairs) < 0.06
    assert width(broken) > 1


def test_the_bootstrap_of_equal_values_is_a_point():
    assert bootstrap_interval(np.full(10, 0.25)) == (0.25, 0.25)


@pytest.mark.slow
def test_the_bootstrap_covers_at_its_level():
    generator = np.random.default_rng(0)
    hits = 0
    for run in range(1000):
        low, high = bootstrap_interval(generator.exponential(size=200), resamples=1000, seed=run)
        hits += low <= 1.0 <= high
    assert 0.92 < hits / 1000 < 0.965


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adjusted_win_rate([]), "win rate: outcomes of shape"),
        (lambda: adjusted_win_rate([1, 0.7]), "win rate: outcome 1 is 0.7"),
        (lambda: adjusted_win_rate([1, float("nan")]), "win rate: outcome 1 is nan"),
        (lambda: adjusted_win_rate([1, 0], ["x"]), "clusters: 1 labels for 2 values"),
        (lambda: adjusted_win_rate([1, 0], level=95), "level 95: not a confidence level"),
        (lambda: bootstrap_interval(np.array([])), "bootstrap: no values"),
        (lambda: bootstrap_interval(np.ones(3), level=1.0), "level 1.0: not a confidence level"),
    ],
)
def test_bad_input_is_told_in_one_line(call, message):
    with pytest.raises(UserError) as error:
        call()
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
