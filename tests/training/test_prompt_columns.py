"""TRL's baseline from answers under other prompts; the columns `weight` and `margin` of prompts."""

import pytest
import torch
from one_pass import OnePass, first_step, horvitz_thompson, make_groups, perturbed, relative_gap

from unveil.errors import UserError
from unveil.objectives import Likelihoods, dpo, kto, rankdpo, total_loss

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}


@pytest.fixture
def models(tiny_llada):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    return perturbed(reference), reference


def mismatched_margins(policy, reference, data):
    """r of every answer under the prompt of the next one, the last under the first."""
    moved = [row | {"prompt_ids": data[(i + 1) % len(data)]["prompt_ids"]} for i, row in enumerate(data)]
    likelihoods = OnePass(policy, reference, moved).likelihoods(horvitz_thompson())
    return (likelihoods.policy - likelihoods.reference).detach()[:, 0]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("size", [6, 2, 1])
def test_trl_kl_is_the_clamped_mean_margin_of_answers_under_other_prompts(models, trainer_of, rows, size, turned):
    """Prompts move on in the data, however it is cut. Policy and reference exchanged, the mean has the other sign."""
    policy, reference = models[::-1] if turned else models
    data = rows(6)
    margins = mismatched_margins(policy, reference, data)
    mean = margins.mean().item()
    case = OnePass(policy, reference, data)
    likelihoods = case.likelihoods(horvitz_thompson())
    loss = total_loss(kto(baseline="trl_kl"), likelihoods._replace(mismatched=margins), case.feedback())
    step = first_step(
        trainer_of, policy, reference, data, baseline="trl_kl", num_draws=3, per_device_train_batch_size=size,
        gradient_accumulation_steps=6 // size,
    )  # fmt: skip
    assert step.logs["baseline"] == pytest.approx(max(mean, 0), rel=1e-9)
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative_gap(step.grads, case.gradient(loss)) < 1e-10
    assert mean != 0


def test_trl_kl_needs_two_prompts_and_a_reference_that_can_be_asked(models, trainer_of, rows):
    alike = [row | {"prompt_ids": [5]} for row in rows(4)]
    trainer = trainer_of(alike, models[0], baseline="trl_kl")
    with pytest.raises(UserError, match="--dataset_name: all rows have one prompt"):
        trainer.train()
    assert trainer.state.global_step == 0
    trainer = trainer_of(rows(4), models[0], baseline="trl_kl", eval_rows=alike)
    with pytest.raises(UserError, match="--eval_dataset_name: all rows have one prompt"):
        trainer.evaluate()
    trainer.train()
    assert trainer.evaluate()["eval_baseline"] == pytest.approx(0, abs=0.1)  # under a prompt of the training data
    with pytest.raises(UserError, match=r"--precompute_ref_log_probs: --baseline trl_kl .* under other prompts"):
        trainer_of(rows(4), models[0], baseline="trl_kl", precompute_ref_log_probs=True)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_trl_kl_is_the_same_in_every_cut_of_the_last_batch_and_in_evaluation(models, trainer_of, rows, size):
    """Rows 2 i and 2 i + 1 have one prompt, as pairs that were taken apart: none is put under its own."""
    data = [row | {"prompt_ids": [5 + i // 2]} for i, row in enumerate(rows(10))][:9]
    trainer = trainer_of(
        data, models[0], eval_rows=data, baseline="trl_kl", per_device_train_batch_size=size,
        per_device_eval_batch_size=size, trainer_arguments={"ref_model": models[1]}, learning_rate=0.0,
        allow_one_label=True,
    )  # fmt: skip
    seen, plain = [], trainer.prepare

    def prepare(given, *arguments, **named):
        seen.extend((row["example_id"], tuple(row["prompt_ids"])) for row in given)
        return plain(given, *arguments, **named)

    trainer.prepare = prepare
    trainer.train()
    trainer.evaluate()
    moved = [(name, prompt) for name, prompt in seen if prompt != (5 + name // 2,)]
    assert sorted(moved) == sorted(2 * [(i, (5 + (i // 2 + 1) % 5,)) for i in range(9)])


@pytest.mark.parametrize(("name", "objective", "shape"), [("dpo", dpo(), "pairs"), ("rankdpo", rankdpo(), "lists")])
def test_the_weight_of_a_prompt_multiplies_its_loss_in_the_gradient(models, trainer_of, name, objective, shape):
    numbers = [2.0, 1.0, 0.0, 0.5]
    data = [row | {"weight": weight} for row, weight in zip(make_groups(4, shape), numbers)]
    case = OnePass(*models, data)
    losses = objective(case.likelihoods(horvitz_thompson()), case.feedback())
    expected = case.gradient((torch.tensor(numbers) * losses).mean())
    step = first_step(trainer_of, *models, data, objective=name, num_draws=3)
    assert relative_gap(step.grads, expected) < 1e-10


FORMS = [("kto", "unpaired"), ("bco", "unpaired"), ("dpo", "pairs"), ("vrpo", "pairs"), ("rankdpo", "lists"),
         ("disco", "lists")]  # fmt: skip


def weighted_and_copied(rows, shape, numbers=(2.0, 1.0, 0.0, 1.0), copies=(0, 0, 1, 3)):
    """Four rows with weights, and the same as copies without."""
    data = rows(4) if shape == "unpaired" else make_groups(4, shape)
    return [row | {"weight": number} for row, number in zip(data, numbers)], [data[i] for i in copies]


@pytest.mark.parametrize("debias", ["none", "cross_fit"])
@pytest.mark.parametrize(("name", "shape"), FORMS)
def test_a_row_of_weight_two_is_the_row_twice_and_one_of_weight_zero_is_absent(
    models, trainer_of, rows, name, shape, debias
):
    """Gradient over both passes, logged loss and held-out loss, for thumbs, pairs and lists."""
    weighted, copied = (
        first_step(
            trainer_of, *models, data, objective=name, num_draws=2, draw_design="iid", debias=debias, eval_rows=data
        )
        for data in weighted_and_copied(rows, shape)
    )
    assert weighted.loss == pytest.approx(copied.loss, rel=1e-6)
    assert relative_gap(weighted.grads, copied.grads) < 1e-10
    held_out = [step.trainer.evaluate()["eval_loss"] for step in (weighted, copied)]
    assert held_out[0] == pytest.approx(held_out[1], rel=1e-6)
    assert weighted.logs.get("baseline") == pytest.approx(copied.logs.get("baseline"))


@pytest.mark.parametrize(("name", "shape"), [("kto", "unpaired"), ("dpo", "pairs")])
def test_the_logged_and_the_held_out_loss_grow_with_the_weights(models, trainer_of, rows, name, shape):
    data = rows(4) if shape == "unpaired" else make_groups(4, shape)
    plain, tenfold = (
        first_step(trainer_of, *models, given, objective=name, eval_rows=given)
        for given in (data, [row | {"weight": 10.0} for row in data])
    )
    assert tenfold.loss == pytest.approx(10 * plain.loss)
    assert tenfold.logs["grad_norm"] == pytest.approx(10 * plain.logs["grad_norm"])
    assert tenfold.trainer.evaluate()["eval_loss"] == pytest.approx(
        10 * plain.trainer.evaluate()["eval_loss"], rel=1e-2
    )


def test_a_weight_of_two_for_all_prompts_doubles_the_gradient(models, trainer_of):
    data = make_groups(2)
    plain = first_step(trainer_of, *models, data, objective="dpo")
    doubled = first_step(trainer_of, *models, [row | {"weight": 2.0} for row in data], objective="dpo")
    assert relative_gap(doubled.grads, [2 * grad for grad in plain.grads]) < 1e-12


def test_the_margin_of_a_prompt_is_the_lead_that_its_best_answer_must_have(models, trainer_of):
    """`softplus(-beta (D - m))`, and no metric knows of it."""
    margins = [3.0, 0.0, -2.0]
    data = [row | {"margin": margin} for row, margin in zip(make_groups(3), margins)]
    case = OnePass(*models, data)
    likelihoods = case.likelihoods(horvitz_thompson())
    gap = likelihoods.policy - likelihoods.reference
    loss = torch.nn.functional.softplus(-0.1 * (gap[:, 0] - gap[:, 1] - torch.tensor(margins))).mean()
    step = first_step(trainer_of, *models, data, objective="dpo", num_draws=3)
    plain = first_step(trainer_of, *models, make_groups(3), objective="dpo", num_draws=3)
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative_gap(step.grads, case.gradient(loss)) < 1e-10
    assert step.logs["rewards/margins"] == plain.logs["rewards/margins"]


def test_a_margin_in_a_list_is_for_the_best_answer_only(models, trainer_of):
    data = [row | {"margin": 2.0} for row in make_groups(3, "lists")]
    case = OnePass(*models, data)
    likelihoods, feedback = case.likelihoods(horvitz_thompson()), case.feedback()
    real = feedback.relevance.masked_fill(~feedback.mask, -1)
    best = (real == real.amax(1, keepdim=True)).double()
    shifted = Likelihoods(likelihoods.policy - 2 * best, likelihoods.reference, likelihoods.length)
    loss = total_loss(rankdpo(), shifted, feedback)
    step = first_step(trainer_of, *models, data, objective="rankdpo", num_draws=3)
    assert relative_gap(step.grads, case.gradient(loss)) < 1e-10
