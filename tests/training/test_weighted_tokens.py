"""Tokens that count more or less: position weights of objectives and data, combiners, and every kind of design."""

import pytest
import torch
from one_pass import OnePass, first_step, make_groups, perturbed, relative_gap

from unveil.likelihood import token_weights
from unveil.objectives import RECIPES, dpo, kto, ld_dpo

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}


@pytest.fixture
def models(tiny_llada):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    return perturbed(reference), reference


def test_ld_dpo_with_alpha_one_is_dpo(models, trainer_of):
    data = make_groups(3)
    plain = first_step(trainer_of, *models, data, objective="dpo")
    weighted = first_step(trainer_of, *models, data, objective="ld_dpo", objective_args=["alpha=1"])
    assert weighted.loss == plain.loss
    assert relative_gap(weighted.grads, plain.grads) == 0


def test_ld_dpo_with_alpha_zero_gives_tokens_beyond_the_shared_length_no_gradient(models, trainer_of):
    """They are still seen and hidden; the formula has a 0 for each of them."""
    data = make_groups(3)
    lengths = [[len(r["completion_ids"]) for r in row["responses"]] for row in data]
    assert any(one != other for one, other in lengths)
    case = OnePass(*models, data)
    loss = case.loss_of(ld_dpo(alpha=0.0))
    step = first_step(trainer_of, *models, data, objective="ld_dpo", objective_args={"alpha": 0.0}, num_draws=3)
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative_gap(step.grads, case.gradient(loss)) < 1e-10
    batch = step.trainer.prepare_for_training(data, 0)
    batch.weigh_answers([1.0] * 6)
    for packed in batch.packed:
        for row, part in zip(packed.order, batch.coefficients(packed).split(packed.hidden_counts)):
            drawn = batch.draws[row]
            places = drawn.places - len(batch.responses[drawn.response].prompt_ids)
            shared = min(lengths[batch.groups[drawn.response]])
            assert ((part == 0).numpy() == (places >= shared)).all()


def test_a_span_is_as_long_as_its_own_tokens(models, trainer_of):
    data = make_groups(3, "lists", parts="spans")
    trainer = trainer_of(data, models[0], objective="irpo")
    batch = trainer.prepare_for_training(data, 0)
    assert batch.lengths == [2] * len(batch.responses)
    assert {record.length for record in trainer._scored(batch, 0)} == {2}
    assert all(response.length > 2 for response in batch.responses)


def test_weights_of_the_data_count_under_any_objective(models, trainer_of):
    """The column `position_weights` is part of the likelihood."""
    data = make_groups(3, parts="steps")
    case = OnePass(*models, data)
    loss = case.loss_of(dpo())
    step = first_step(trainer_of, *models, data, objective="dpo", num_draws=3)
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative_gap(step.grads, case.gradient(loss)) < 1e-10


def test_the_weights_of_ld_dpo_and_those_of_the_data_multiply(models, trainer_of):
    data = make_groups(3, parts="steps")
    case = OnePass(*models, data)
    loss = case.loss_of(ld_dpo(alpha=0.25))
    step = first_step(trainer_of, *models, data, objective="ld_dpo", objective_args=["alpha=0.25"], num_draws=3)
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative_gap(step.grads, case.gradient(loss)) < 1e-10
    unweighted = first_step(trainer_of, *models, make_groups(3), objective="ld_dpo", objective_args=["alpha=0.25"])
    assert step.loss != unweighted.loss


def combined(combiner, wanted=None):
    """`sum_k sum_i w_k[i] log p_i` with the weights of `token_weights`."""

    def surrogate(case, prompt, candidate, log_p):
        drawn, length = case.plans[prompt][candidate], case.responses[prompt][candidate].length
        by_place = case.position_weights(prompt, candidate, wanted).numpy()
        weights = token_weights(drawn, length, combiner, by_place)
        return torch.stack([(torch.from_numpy(w) * p).sum() for w, p in zip(weights, log_p)]).sum()

    return surrogate


@pytest.mark.parametrize("combiner", ["hajek", "crossfit_difference"])
@pytest.mark.parametrize("name", ["kto", "dpo", "ld_dpo", "rankdpo"])
def test_a_combiner_gives_the_gradient_of_its_own_estimate(models, trainer_of, rows, name, combiner):
    recipe = RECIPES[name]
    data = rows(4) if recipe.shape == "unpaired" else make_groups(3, recipe.shape)
    case, objective = OnePass(*models, data, num_draws=4, design="stratified"), recipe.make()
    loss = case.loss_of(objective, combined(combiner, objective.position_weights))
    step = first_step(
        trainer_of, *models, data, objective=name, num_draws=4, draw_design="stratified", combiner=combiner,
        tokens_per_batch=60,
    )  # fmt: skip
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative_gap(step.grads, case.gradient(loss)) < 1e-10


@pytest.mark.parametrize(
    ("design", "num_draws"),
    [("left_to_right", 1), ("all_subsets", 1), ("coupled", 4), ("mirrored", 4), ("importance", 3), ("quadrature", 3)],
)
def test_every_kind_of_design_trains_to_the_one_pass_gradient(models, trainer_of, rows, design, num_draws):
    """Answers have their own numbers of draws under some."""
    longest = 5 if design == "all_subsets" else 9
    for name, objective, data in (
        ("dpo", dpo(), make_groups(2, longest=longest)),
        ("kto", kto(), rows(4, longest=longest)),
    ):
        case = OnePass(*models, data, num_draws=num_draws, design=design)
        loss = case.loss_of(objective)
        step = first_step(
            trainer_of, *models, data, objective=name, num_draws=num_draws, draw_design=design, kept_tokens=100
        )
        assert step.loss == pytest.approx(loss.item(), rel=1e-6)
        assert relative_gap(step.grads, case.gradient(loss)) < 1e-10
        counts = {len(plan.weights) for members in case.plans for plan in members}
        assert len(counts) > 1 or design not in ("left_to_right", "coupled")
