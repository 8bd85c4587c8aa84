"""Pass 1 may draw more often than pass 2: better weights at the price of forward passes only."""

import pytest
import torch
from one_pass import OnePass, first_step, horvitz_thompson, make_groups, perturbed, relative_gap

from unveil.errors import UserError
from unveil.objectives import dpo, jackknife, weights
from unveil.training import PreferenceConfig, SFTConfig

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}


def test_weights_come_from_the_larger_plan_and_the_gradient_from_the_smaller_one(tiny_llada, trainer_of):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), make_groups(4)
    many, few = (OnePass(policy, reference, data, num_draws=count) for count in (8, 2))
    loss, slopes = weights(dpo(), many.likelihoods(horvitz_thompson()), many.feedback())
    step = first_step(trainer_of, policy, reference, data, objective="dpo", num_draws=2, num_draws_weight=8)
    expected = few.gradient((slopes * few.likelihoods(horvitz_thompson()).policy).sum())
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative_gap(step.grads, expected) < 1e-10


def test_the_same_number_of_draws_is_one_plan(tiny_llada, trainer_of):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), make_groups(2)
    plain = first_step(trainer_of, policy, reference, data, objective="dpo", num_draws=3)
    same = first_step(trainer_of, policy, reference, data, objective="dpo", num_draws=3, num_draws_weight=3)
    assert relative_gap(same.grads, plain.grads) == 0
    assert "elbo/passes_gap" in same.logs


def test_it_serves_with_cached_reference_values(tiny_llada, trainer_of):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), make_groups(4)
    live, cached = (
        first_step(
            trainer_of, policy, reference, data, objective="dpo", num_draws=2, num_draws_weight=6,
            precompute_ref_log_probs=value,
        )
        for value in (False, True)
    )  # fmt: skip
    assert cached.loss == pytest.approx(live.loss, rel=1e-9)
    assert relative_gap(cached.grads, live.grads) < 1e-10


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"eval_num_draws": 0}, "--eval_num_draws 0: at least 1 is needed; leave it out"),
        ({"eval_num_draws": -3}, "--eval_num_draws -3: at least 1 is needed"),
        ({"num_draws_weight": 0}, "--num_draws_weight 0: at least 1 is needed"),
        ({"replay_num_draws": 0}, "--replay_num_draws 0: at least 1 is needed"),
        (
            {"eval_num_draws": 3, "draw_design": "mirrored"},
            "--eval_num_draws 3 cannot be served; --eval_num",
        ),
        ({"num_draws_weight": 7, "draw_design": "mirrored"}, "--num_draws_weight 7 cannot be served"),
        (
            {"replay_weight": 0.1, "draw_design": "mirrored"},
            "--replay_num_draws 1 cannot be served; --replay_num",
        ),
        ({"eval_num_draws": 2, "num_draws": 1, "draw_design": "all_subsets"}, "--eval_num_draws 2 .*cannot be served"),
        ({"eval_num_draws": 1, "combiner": "crossfit_difference"}, "--eval_num_draws 1 of .*--eval_num_draws 2 would"),
        ({"num_draws_weight": 1, "combiner": "crossfit_difference"}, "--num_draws_weight 1 of "),
        ({"replay_weight": 0.1, "combiner": "crossfit_difference"}, "--replay_num_draws 1 of "),
    ],
)
def test_a_number_of_draws_that_cannot_be_served_is_told_of_its_own_flag_before_training(given, told):
    with pytest.raises(UserError, match=told) as error:
        PreferenceConfig(output_dir="x", use_cpu=True, **given)
    assert "--num_draws " not in str(error.value)
    assert "\n" not in str(error.value)


def test_the_draws_of_held_out_answers_are_looked_at_in_sft_too():
    with pytest.raises(UserError, match="--eval_num_draws 0: at least 1 is needed"):
        SFTConfig(output_dir="x", use_cpu=True, eval_num_draws=0)


@pytest.mark.parametrize("count", [2, 6, 8])
def test_every_number_of_held_out_draws_that_is_accepted_can_be_drawn(count):
    """Also where masks share their sizes and the number is no multiple of the group."""
    args = PreferenceConfig(
        output_dir="x", use_cpu=True, draw_design="mirrored", num_draws=4, masks_per_size=2, eval_num_draws=count
    )
    assert len(args.plan_of(3, 0, 9, count).positions) == count


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"objective": "d2_dpo"}, "--objective d2_dpo"),
        ({"objective": "dpo", "debias": "jackknife"}, "--debias jackknife"),
    ],
)
def test_draw_by_draw_objectives_refuse_other_draws_in_pass_1(tiny_llada, trainer_of, arguments, what, count):
    with pytest.raises(UserError, match=rf"--num_draws_weight {count}: {what} weighs every draw by itself"):
        trainer_of(
            make_groups(2), tiny_llada(vocab_size=24, **SMALL), draw_design="iid", num_draws=4, num_draws_weight=count,
            **arguments,
        )  # fmt: skip


def test_a_jackknife_made_in_python_refuses_them_as_well(tiny_llada, trainer_of):
    with pytest.raises(UserError, match=r"--num_draws_weight 8: .* weighs every draw by itself"):
        trainer_of(
            make_groups(2), tiny_llada(vocab_size=24, **SMALL), draw_design="iid", num_draws=4, num_draws_weight=8,
            trainer_arguments={"objective": jackknife(dpo())}, objective="dpo",
        )  # fmt: skip
