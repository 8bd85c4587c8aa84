"""What `unveil.diagnostics` measures is what enumeration says, for values, margins and gradients."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from design_laws import iid_law, independent_law, strata_units, tiling_law
from table_predictor import (
    TablePredictor,
    across_and_within,
    all_subsets,
    elbo_by_subsets,
    exact_moments,
    log_p_of,
    perturbed,
    random_predictor,
    set_values,
    token_values,
)

from unveil.diagnostics.estimator_comparison import compare, record
from unveil.diagnostics.estimator_variance import (
    Draws,
    Measured,
    Strata,
    all_designs,
    log_probs,
    measure,
    served,
    ways_to_draw,
)
from unveil.diagnostics.gradient_moments import GradientRequest, RunningMoments, Sketch, chosen_parameters
from unveil.diagnostics.perturbation import perturbed_copy
from unveil.diagnostics.recommendation import exponent_advice, fall_with_size, recommend, strata_exponent
from unveil.draws import Plan
from unveil.errors import UserError
from unveil.likelihood import Response, token_weights
from unveil.models import Denoiser

COMPLETION = (2, 0, 1, 1)
LENGTH = len(COMPLETION)
REPLICATES = 1200


class TrainableTable(TablePredictor):
    """A table whose logits are parameters."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__(table)
        self.model = torch.nn.ParameterDict({"table": torch.nn.Parameter(table.clone())})
        self.table = self.model["table"]


def measured(draws: Draws, replicates: int = REPLICATES, combiners=("ht",), **keywords: Any) -> Measured:
    policy, reference = models()
    answers = [Response(3, (), COMPLETION), Response(4, (), COMPLETION)]
    return measure(policy, reference, answers, draws, combiners, replicates, 5, **keywords)


def models() -> tuple[Any, Any]:
    policy = random_predictor(3, LENGTH, seed=4)
    return policy, perturbed(policy, seed=5)


def z_of(values: np.ndarray, exact: float) -> float:
    """z-score of a sample variance against its own sampling error."""
    spread = (values - values.mean()) ** 2
    return float((values.var(ddof=1) - exact) / (spread.std() / len(values) ** 0.5))


LAWS = {
    "iid": lambda: iid_law(LENGTH, 2),
    "quadratic_tiling": lambda: tiling_law(LENGTH, 2),
    "quadratic": lambda: independent_law(LENGTH, strata_units(LENGTH, 2, 2.0), "quadratic"),
}


@pytest.mark.parametrize("design", LAWS)
def test_variance_of_the_elbo_is_that_of_enumeration(design):
    exact = exact_moments(models()[0], COMPLETION, LAWS[design]()).variance
    assert abs(z_of(measured(Draws(design, 2)).elbo_CNR[0, 0], exact)) < 4


@pytest.mark.parametrize("combiner", ["ht", "hajek", "crossfit_difference"])
@pytest.mark.parametrize("design", LAWS)
def test_squared_errors_are_those_of_enumeration_with_their_bias(design, combiner):
    found = [measured(Draws(name, 2), combiners=("ht", combiner)) for name in dict.fromkeys(("iid", design))]
    chosen = compare(found).find(design, 2, combiner)
    assert chosen is not None
    exact = exact_squared_errors(LAWS[design](), combiner)
    for name, values, (error, truth) in zip(("elbo", "margin"), (found[-1].elbo_CNR, found[-1].margin_CNR), exact):
        sampling = ((values[-1, 0] - truth) ** 2).std() / REPLICATES**0.5
        # The squared bias is against a pooled mean, which has an error of its own.
        pooled = (found[0].elbo_CNR if name == "elbo" else found[0].margin_CNR)[0, 0].std() / REPLICATES**0.5
        slack = 2 * abs(values[-1, 0].mean() - truth) * pooled
        assert abs(getattr(chosen, f"{name}_N")[0] - error) < 4 * (sampling + slack), name


def exact_squared_errors(law: Iterable[tuple[float, Plan]], combiner: str) -> list[tuple[float, float]]:
    """(E (estimate - truth)^2, truth) of B and of the margin."""
    policy, reference = models()
    tables = [token_values(model, COMPLETION) for model in (policy, reference)]
    ours, theirs = (elbo_by_subsets(set_values(model, COMPLETION), LENGTH) for model in (policy, reference))
    truths, errors = np.array([ours, ours - theirs]), np.zeros(2)
    for probability, drawn in law:
        weights = np.concatenate(token_weights(drawn, LENGTH, combiner))
        p, q = (np.concatenate(log_p_of(table, drawn)) for table in tables)
        errors += probability * (np.array([weights @ p, weights @ (p - q)]) - truths) ** 2
    return list(zip(errors.tolist(), truths.tolist()))


def test_the_squared_bias_of_hajek_is_found():
    """Of a single draw each hidden token weighs 1 and no other counts, so that |B| comes out too small."""
    found = measured(Draws("iid", 1), combiners=("ht", "hajek"))
    error, _ = exact_squared_errors(iid_law(LENGTH, 1), "hajek")[0]
    estimates = found.elbo_CNR[1, 0]
    bias = compare([found]).estimators[1].elbo_N[0] - estimates.var(ddof=1)
    assert bias == pytest.approx(error - estimates.var(), rel=0.25)
    assert bias > 1


@pytest.mark.parametrize("design", LAWS)
def test_trace_of_the_gradient_is_that_of_enumeration(design):
    policy = TrainableTable(models()[0].table)
    tokens = _set_gradients(policy)
    mean, square = torch.zeros_like(tokens[(0,)]), 0.0
    for probability, drawn in LAWS[design]():
        gradient = sum(w * tokens[tuple(hidden.tolist())] for w, hidden in zip(drawn.weights, drawn.positions))
        mean += probability * gradient
        square += probability * float(gradient.square().sum())
    exact = square - float(mean.square().sum())
    found = measure(
        policy, policy, [Response(3, (), COMPLETION)], Draws(design, 2), ("ht",), 2, 5, GradientRequest(800)  # type: ignore
    ).gradient  # fmt: skip
    assert found is not None
    assert found.trace_CN[0, 0] == pytest.approx(exact, rel=0.12)
    even, odd = found.sketch_CN2S[0, 0]
    assert float(even @ odd) == pytest.approx(float(mean.square().sum()), rel=0.2)


def _set_gradients(policy: TrainableTable) -> dict[tuple[int, ...], torch.Tensor]:
    """Gradient of S(M) of every set, by autograd on the table."""
    found = {}
    for hidden in all_subsets(LENGTH):
        canvas = [policy.mask_token_id if i in hidden else y for i, y in enumerate(COMPLETION)]
        state = sum(digit * (policy.mask_token_id + 1) ** i for i, digit in enumerate(canvas))
        log_p = policy.table[state].log_softmax(-1)
        total = sum(log_p[i, COMPLETION[i]] for i in hidden)
        found[hidden] = torch.autograd.grad(total, [policy.table])[0]  # type: ignore[arg-type]
    return found


def test_split_of_iid_draws_is_that_of_enumeration():
    across, within = across_and_within(set_values(models()[0], COMPLETION), LENGTH)
    split = measured(Draws("iid", 4, masks_per_size=2)).split
    assert split is not None
    assert split[0].across == pytest.approx(across, rel=0.1)
    assert split[0].within == pytest.approx(within, rel=0.1)


def test_strata_vary_as_their_draws_do():
    found = measured(Draws("quadratic_tiling", 2), gradient=None).strata
    assert found is not None
    assert found.ratio_K[0] == pytest.approx(0.25, abs=0.01)  # the first quarter of four tokens: always one
    sums = set_values(models()[0], COMPLETION)
    single = np.var([LENGTH * sums[(i,)] for i in range(LENGTH)])
    assert found.elbo_K[0] == pytest.approx(single, rel=0.1)


@pytest.mark.parametrize("combiner", ["hajek", "crossfit_difference"])
def test_only_known_biases_are_looked_for(combiner):
    compared = compare([measured(Draws("iid", 2), 50, ("ht", combiner))])
    biased = compared.estimators[1]
    assert biased.unbiased == (combiner == "crossfit_difference")


@pytest.fixture
def tiny_pair(tiny_llada) -> tuple[Denoiser, Denoiser]:
    policy = Denoiser(tiny_llada())
    return policy, perturbed_copy(policy, 0.05, seed=1)


RESPONSES = [Response(i, tuple(range(5, 8 + i)), tuple(range(9, 15 + 3 * i))) for i in range(4)]


def test_cutting_batches_changes_no_ratio(tiny_pair):
    ways = ways_to_draw(["quadratic_tiling"], 4)
    found = []
    for tokens_per_batch in (1, 64, 4096):
        request = GradientRequest(4, ("blocks.1",))
        runs = [
            measure(*tiny_pair, RESPONSES, draws, ("ht", "hajek"), 6, 0, request, tokens_per_batch) for draws in ways
        ]
        compared = compare(runs)
        found.append([record(compared, e) for e in compared.estimators])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            for key in ("elbo_mse_over_iid", "margin_mse_over_iid", "gradient_mse_over_iid"):
                assert tuple(a[key].values()) == pytest.approx(tuple(b[key].values()), rel=2e-3)


def test_measuring_leaves_the_model_as_it_was(tiny_pair):
    policy, reference = tiny_pair
    before = [p.clone() for p in policy.model.parameters()]
    policy.model.requires_grad_(False)
    measure(policy, reference, RESPONSES[:2], Draws("iid", 2), ("ht",), 2, gradient=GradientRequest(2, ("blocks.0",)))
    assert not any(p.requires_grad or p.grad is not None for p in policy.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, policy.model.parameters()))


def test_a_subset_of_parameters_has_a_smaller_trace(tiny_pair):
    traces = []
    for names in ((), ("blocks.0",)):
        found = measure(*tiny_pair, RESPONSES[:2], Draws("iid", 2), ("ht",), 2, gradient=GradientRequest(3, names))
        assert found.gradient is not None
        traces.append(found.gradient.trace_CN.sum())
    assert 0 < traces[1] < traces[0]
    with pytest.raises(UserError, match="--gradient_parameters nothing: in no parameter's name"):
        chosen_parameters(tiny_pair[0].model, ["nothing"])


def test_the_same_models_have_no_margin(tiny_pair):
    found = measure(tiny_pair[0], tiny_pair[0], RESPONSES, Draws("iid", 2), ("ht",), 3)
    assert not found.margin_CNR.any()
    with pytest.raises(UserError, match="give models that differ"):
        record(compare([found]), compare([found]).estimators[0])


def test_a_model_that_gives_no_numbers_is_named(tiny_pair):
    policy, reference = tiny_pair
    with torch.no_grad():
        next(reference.model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="example 0: the reference gives a log-probability"):
        measure(policy, reference, RESPONSES, Draws("iid", 2), ("ht",), 2)


def test_log_probs_are_in_the_order_of_the_plan(tiny_pair):
    plans = [Draws("iid", 3).plan(0, RESPONSES[0], epoch) for epoch in range(4)]
    together = log_probs(tiny_pair[0], RESPONSES[0], plans, 4096)
    for drawn, values in zip(plans, together, strict=True):
        alone = log_probs(tiny_pair[0], RESPONSES[0], [drawn], 4096)[0]
        np.testing.assert_allclose(values, alone, rtol=1e-4)


def test_running_moments_are_those_of_all_at_once():
    samples = torch.randn(7, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    running = RunningMoments()
    for sample in samples:
        running.add([sample[:4], sample[4:]])
    assert running.trace == pytest.approx(float(samples.var(dim=0).sum()))


def test_a_sketch_keeps_inner_products_on_average():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 300, generator=generator)
    parameters = [torch.nn.Parameter(torch.zeros(100)), torch.nn.Parameter(torch.zeros(10, 20))]
    found = []
    for seed in range(400):
        sketch = Sketch(parameters, 32, seed)
        one, other = (sketch([x[:100], x[100:].view(10, 20)]) for x in (a, b))
        found.append(one @ other)
    error = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found) - float(a @ b)) < 4 * error


def test_every_design_and_combiner_that_can_be_served_is():
    assert "coupled" in all_designs(4)
    assert "coupled" not in all_designs(3)
    assert "all_subsets" not in all_designs(1)
    assert served(["hajek", "crossfit_difference"], Draws("mirrored", 2)) == ["ht", "hajek"]
    names = [draws.name for draws in ways_to_draw(["quadratic", "iid", "importance"], 4, (1.5, 2.0), 0.7)]
    assert names == ["iid", "iid 2x2", "quadratic p=1.5", "quadratic", "importance a=0.7"]


def _made_up(noise: dict[str, float], answers: int = 40) -> list[Measured]:
    """Margins of given variance, `ht` only."""
    rng = np.random.default_rng(0)
    found = []
    for design, variance in noise.items():
        values = rng.normal(size=(1, answers, 60)) * variance**0.5
        found.append(Measured(Draws(design, 4), ("ht",), 4.0, values, values))
    return found


def test_the_best_design_is_recommended_when_it_is_clearly_better():
    found = recommend(compare(_made_up({"iid": 1.0, "quadratic_tiling": 0.6, "mirrored": 0.3})), 4)
    assert found.chosen.name == "mirrored"
    assert found.certain
    assert found.text().startswith("Use --draw_design mirrored --num_draws 4: its margin variance is 0.5")


def test_the_default_is_kept_where_it_is_the_best():
    found = recommend(compare(_made_up({"iid": 1.0, "quadratic_tiling": 0.3, "mirrored": 0.31})), 4)
    assert (found.chosen.name, found.rival.name if found.rival else None) == ("quadratic_tiling", "mirrored")
    assert "the smallest of the unbiased ones, though within the interval" in found.text()


def test_the_default_stays_when_nothing_is_shown():
    found = recommend(compare(_made_up({"iid": 1.0, "quadratic_tiling": 0.5, "mirrored": 0.499})), 4)
    assert found.chosen.name == "quadratic_tiling"
    assert "within the interval" in found.text()


def test_few_answers_recommend_the_default():
    found = recommend(compare(_made_up({"iid": 1.0, "quadratic_tiling": 0.6, "mirrored": 0.3}, answers=9)), 4)
    assert found.chosen.name == "quadratic_tiling"
    assert "9 answers are too few" in found.text()


def test_a_biased_design_is_never_recommended():
    found = recommend(compare(_made_up({"iid": 1.0, "quadratic_tiling": 0.5, "quadrature": 0.01})), 4)
    assert found.best.name == "quadratic_tiling"


@pytest.mark.parametrize(("fall", "exponent"), [(0.0, 1.0), (1.0, 2.0), (1.2, 2.5), (5.0, 3.0), (-1.0, 1.0)])
def test_the_exponent_follows_how_the_variance_falls(fall, exponent):
    ratio = np.array([0.02, 0.1, 0.3, 0.7])
    assert fall_with_size(ratio, 3 * ratio**-fall) == pytest.approx(fall, abs=1e-9)
    assert strata_exponent(fall) == exponent


def test_advice_on_the_exponent_weighs_margin_and_gradient():
    ratio = np.array([0.02, 0.1, 0.3, 0.7])
    advice = exponent_advice(Strata(ratio, ratio, ratio**-0.5, ratio**-1.5))
    assert advice["strata_exponent"] == 2.0
    assert "u^-0.50 and the gradient" in advice["text"]
