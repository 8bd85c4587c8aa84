"""Every interval covers the truth as often as it says: within 2 points of 95 % over 2,000 simulated experiments."""

from collections.abc import Callable

import numpy as np
import pytest

from unveil.judging import (
    Verdict,
    adjusted_win_rate,
    bootstrap_interval,
    cohen_kappa,
    deviation_from_even,
    krippendorff_alpha,
    length_controlled_win_rate,
    minimum_detectable_difference,
    position_bias,
    self_consistency,
    sign_test,
)
from unveil.judging.bootstrap import bootstrap_sums

EXPERIMENTS = 2000
SLOW = pytest.mark.slow
VERDICTS = (Verdict("A"), Verdict("tie"), Verdict("B"))


def coverage(experiment: Callable[[np.random.Generator], tuple[float | None, float | None]], truth: float) -> float:
    """Share of the experiments whose interval holds the truth."""
    generator = np.random.default_rng(5)
    hits = 0
    for _ in range(EXPERIMENTS):
        low, high = experiment(generator)
        assert low is not None
        assert high is not None
        hits += low <= truth <= high
    return hits / EXPERIMENTS


def with_ties(chance: np.ndarray, ties: float, generator: np.random.Generator) -> np.ndarray:
    """Outcomes of mean `chance`, of which a share `ties` are ties wherever that leaves room for it."""
    tied = np.minimum(ties, 2 * np.minimum(chance, 1 - chance))
    draw = generator.random(chance.shape)
    return np.where(draw < tied, 0.5, (draw < chance + tied / 2).astype(float))


@pytest.mark.parametrize(("rate", "ties"), [(0.5, 0.0), (0.8, 0.1)])
def test_adjusted_win_rate(rate, ties):
    def experiment(generator):
        found = adjusted_win_rate(with_ties(np.full(200, rate), ties, generator))
        return found.low, found.high

    assert 0.93 < coverage(experiment, rate) < 0.97


def test_sign_interval():
    def experiment(generator):
        found = sign_test(generator.choice([1.0, 0.5, 0.0], p=[0.48, 0.2, 0.32], size=300))
        return found.low, found.high

    assert 0.95 <= coverage(experiment, 0.6) < 0.97, "exact intervals never cover less than they say"


def test_bootstrap_of_paired_rates():
    """Two models against a third on the same prompts: the interval of the difference of their win rates."""

    def experiment(generator):
        prompt = generator.random(150)  # an easy prompt is easy for both
        one, other = ((generator.random(150) < chance).astype(float) for chance in (0.2 + 0.6 * prompt, 0.6 * prompt))
        parts = np.column_stack([one - other, np.ones(150)])
        interval = bootstrap_sums(parts, lambda sums: sums[:, 0] / sums[:, 1], resamples=400)
        assert interval is not None
        return interval

    assert 0.93 < coverage(experiment, 0.2) < 0.97


@SLOW
def test_bootstrap_of_any_statistic():
    def experiment(generator):
        rows = generator.normal([0.3, 0.0], 1.0, size=(150, 2))
        return bootstrap_interval(rows, lambda drawn: float(drawn[:, 0].mean() - drawn[:, 1].mean()), resamples=400)

    assert 0.93 < coverage(experiment, 0.3) < 0.97


@pytest.mark.parametrize(
    ("theta", "phi", "longer", "ties"),
    [(0.5, 1.5, 0.5, 0.3), pytest.param(0.0, 1.0, 0.0, 0.0, marks=SLOW), pytest.param(-0.8, 0.7, 1.0, 0.1, marks=SLOW)],
)
def test_length_controlled_win_rate(theta, phi, longer, ties):
    """Longer answers win more, and A's answers are longer (by `longer` standard deviations)."""

    def experiment(generator):
        difference = generator.normal(30 * longer, 30, size=300)
        chance = 1 / (1 + np.exp(-theta - phi * np.tanh(difference / difference.std())))
        outcomes = with_ties(chance, ties, generator)
        found = length_controlled_win_rate(outcomes, 100 + difference, np.full(300, 100))
        return found.low, found.high

    assert 0.93 < coverage(experiment, 1 / (1 + np.exp(-theta))) < 0.97


@SLOW
def test_length_controlled_win_rate_with_several_seeds_of_a_prompt():
    labels = np.repeat(np.arange(120), 3).tolist()
    effects = np.array([-1.5, 1.5])  # of the prompt: its seeds are alike
    truth = 0.5  # by symmetry

    def experiment(generator):
        difference = np.repeat(generator.normal(0, 20, size=120), 3) + generator.normal(0, 20, size=360)
        logits = np.repeat(generator.choice(effects, size=120), 3) + np.tanh(difference / difference.std())
        outcomes = (generator.random(360) < 1 / (1 + np.exp(-logits))).astype(float)
        found = length_controlled_win_rate(outcomes, difference + 90, np.full(360, 90), labels)
        return found.low, found.high

    assert 0.93 < coverage(experiment, truth) < 0.97


def verdicts(codes: np.ndarray) -> list[Verdict]:
    return [VERDICTS[code] for code in codes.tolist()]


@pytest.mark.parametrize("quantity", ["first", "flipped"])
def test_position_bias(quantity):
    """A judge that takes the first answer on 20 % of the pairs, the second on 8 %, and reads fairly on the others."""

    def experiment(generator):
        kind, fair = generator.random(200), generator.integers(0, 3, size=200)
        one = np.where(kind < 0.2, 0, np.where(kind < 0.28, 2, fair))
        other = np.where(kind < 0.2, 2, np.where(kind < 0.28, 0, fair))
        found = position_bias(verdicts(one), verdicts(other))
        assert found is not None
        return (found.first.low, found.first.high) if quantity == "first" else (found.low, found.high)

    truth = {"first": 0.5 + (0.2 - 0.08) / 2, "flipped": 0.28}[quantity]
    assert 0.93 < coverage(experiment, truth) < 0.97


def two_judges(generator, items: int, same: float = 0.6, margins=(0.5, 0.15, 0.35)):
    """Labels that are equal with probability `same` by copying, else independent: kappa = alpha = `same`."""
    one, own = generator.choice(3, p=margins, size=(2, items))
    return one, np.where(generator.random(items) < same, one, own)


def test_cohen_kappa():
    def experiment(generator):
        found = cohen_kappa(*(labels.tolist() for labels in two_judges(generator, 200)))
        return found.low, found.high

    assert 0.93 < coverage(experiment, 0.6) < 0.97


def test_krippendorff_alpha_with_missing_labels():
    def experiment(generator):
        labels = [
            [None if gone else int(label) for label, gone in zip(row, generator.random(200) < 0.1)]
            for row in two_judges(generator, 200)
        ]
        found = krippendorff_alpha(labels)
        return found.low, found.high

    assert 0.93 < coverage(experiment, 0.6) < 0.97


@SLOW
def test_self_consistency():
    """Three verdicts on each pair, each the pair's own with probability 0.8 and else a tie."""

    def experiment(generator):
        own = generator.choice([0, 2], size=100)
        found = self_consistency([verdicts(np.where(generator.random(100) < 0.8, own, 1)) for _ in range(3)])
        assert found is not None
        return found.low, found.high

    assert 0.93 < coverage(experiment, 0.8**2 + 0.2**2) < 0.97


@pytest.mark.parametrize(("n", "ties"), [(100, 0.0), (400, 0.3)])
def test_the_minimum_detectable_difference_is_found_with_the_power_it_promises(n, ties):
    difference = minimum_detectable_difference(n, deviation=np.sqrt((1 - ties) / 4), power=0.8)
    assert difference is not None
    generator = np.random.default_rng(0)
    found = 0
    for _ in range(EXPERIMENTS):
        draw = generator.random(n)
        outcomes = np.where(draw < ties, 0.5, (draw < ties + 0.5 + difference - ties / 2).astype(float))
        found += adjusted_win_rate(outcomes).low > 0.5
    assert 0.77 < found / EXPERIMENTS < 0.83
    assert abs(deviation_from_even(outcomes) - np.sqrt((1 - ties) / 4)) < 0.05


@pytest.mark.parametrize("coefficient", ["kappa", "alpha"])
@pytest.mark.parametrize("items", [20, 50, 100, pytest.param(400, marks=SLOW)])
def test_agreement_of_few_prompts_is_covered(coefficient, items):
    """Also where it is high, and the bootstrap covered 0.89 or less."""
    generator = np.random.default_rng(7)
    for same in (0.3, 0.8):
        hits = known = 0
        for _ in range(EXPERIMENTS // 2):
            labels = [row.tolist() for row in two_judges(generator, items, same)]
            found = cohen_kappa(*labels) if coefficient == "kappa" else krippendorff_alpha(labels)
            if found.low is not None and found.high is not None:
                known += 1
                hits += found.low <= same <= found.high
        assert known > 0.9 * EXPERIMENTS // 2
        assert 0.92 < hits / known < 0.985
