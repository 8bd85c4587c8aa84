"""--debias: draws get slopes of their own, those of the formulas written out on one graph."""

import pytest
import torch
from one_pass import OnePass, each_draw, first_step, make_groups, perturbed, relative_gap

from unveil.errors import UserError
from unveil.objectives import RECIPES, total_loss, weights

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}
DESIGNS = ["iid", "stratified"]


def mean_over(likelihoods, chosen):
    """The surrogates from some of the draws."""
    return likelihoods._replace(
        policy=likelihoods.policy[chosen].mean(0), reference=likelihoods.reference[chosen].mean(0)
    )


def jackknife_loss(objective, likelihoods, feedback):
    """`K l(all) - (K - 1) mean_k l(without k)`."""
    count = len(likelihoods.policy)
    without = [[j for j in range(count) if j != k] for k in range(count)]
    parts = [total_loss(objective, mean_over(likelihoods, chosen), feedback) for chosen in without]
    whole = total_loss(objective, mean_over(likelihoods, list(range(count))), feedback)
    return count * whole - (count - 1) * torch.stack(parts).mean()


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", ["dpo", "kto", "plackett_luce"])
def test_jackknife_trains_on_the_jackknife_of_the_loss(tiny_llada, trainer_of, rows, name, design):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    shape = RECIPES[name].shape
    policy, data = perturbed(reference), rows(4) if shape == "unpaired" else make_groups(3, shape)
    case = OnePass(policy, reference, data, num_draws=3, design=design)
    loss = jackknife_loss(RECIPES[name].make(), case.likelihoods(each_draw), case.feedback())
    arguments = {"num_draws": 3, "draw_design": design, "debias": "jackknife"}
    step = first_step(trainer_of, policy, reference, data, objective=name, **arguments)
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative_gap(step.grads, case.gradient(loss)) < 1e-10
    plain = first_step(trainer_of, policy, reference, data, objective=name, num_draws=3, draw_design=design)
    assert relative_gap(plain.grads, step.grads) > 1e-4


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_cross_fitting_weighs_draws_by_the_other_fold(tiny_llada, trainer_of, rows, name):
    """Folds are the draws of even and odd number; the loss is the plug-in one."""
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), rows(4) if name == "kto" else make_groups(3)
    case = OnePass(policy, reference, data, num_draws=4, design="iid")
    objective, likelihoods, feedback = RECIPES[name].make(), case.likelihoods(each_draw), case.feedback()
    total = torch.zeros(())
    for mine, others in (([0, 2], [1, 3]), ([1, 3], [0, 2])):
        _, slopes = weights(objective, mean_over(likelihoods, others), feedback)
        total = total + (slopes * likelihoods.policy[mine].sum(0) / 4).sum()
    loss = total_loss(objective, mean_over(likelihoods, [0, 1, 2, 3]), feedback)
    step = first_step(
        trainer_of, policy, reference, data, objective=name, num_draws=4, draw_design="iid", debias="cross_fit"
    )
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative_gap(step.grads, case.gradient(total)) < 1e-10


@pytest.mark.parametrize("debias", ["jackknife", "cross_fit"])
def test_debiasing_sees_the_mismatched_margins_of_trl_kl(tiny_llada, trainer_of, rows, debias):
    """The baseline is one number of the batch; it is the plug-in's, whatever draws are left out."""
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), rows(6)
    arguments = {"draw_design": "iid", "num_draws": 3, "baseline": "trl_kl"}
    plain = first_step(trainer_of, policy, reference, data, **arguments)
    step = first_step(trainer_of, policy, reference, data, debias=debias, **arguments)
    assert step.logs["baseline"] == pytest.approx(plain.logs["baseline"])
    if debias == "cross_fit":
        assert step.loss == pytest.approx(plain.loss)
    assert relative_gap(step.grads, plain.grads) < 0.5


@pytest.mark.parametrize("debias", ["jackknife", "cross_fit"])
@pytest.mark.parametrize("design", ["quadratic_tiling", "coupled", "importance"])
def test_draws_of_unequal_shares_are_refused_with_the_flag_to_change(trainer_of, debias, design):
    with pytest.raises(UserError, match=rf"--debias {debias}: .*--draw_design {design}.*--draw_design iid") as told:
        trainer_of(make_groups(2), objective="dpo", debias=debias, draw_design=design, num_draws=4)
    assert "\n" not in str(told.value)


def test_an_objective_of_single_draws_names_itself(trainer_of):
    with pytest.raises(UserError, match=r"--objective d2_dpo: .*--draw_design iid"):
        trainer_of(make_groups(2), objective="d2_dpo")


@pytest.mark.parametrize("debias", ["jackknife", "cross_fit"])
def test_one_draw_and_objectives_of_single_draws_are_refused_before_the_run(trainer_of, debias):
    with pytest.raises(UserError, match="--num_draws"):
        trainer_of(make_groups(2), objective="dpo", debias=debias, draw_design="iid", num_draws=1)
    with pytest.raises(UserError, match="--objective"):
        trainer_of(make_groups(2), objective="d2_dpo", debias=debias, draw_design="iid", num_draws=4)
    with pytest.raises(UserError, match="--debias bootstrap"):
        trainer_of(make_groups(2), objective="dpo", debias="bootstrap")


def test_evaluation_works_draw_by_draw_too(trainer_of):
    data = make_groups(4)
    for arguments in ({"debias": "jackknife"}, {"debias": "cross_fit"}, {"objective": "d2_dpo"}):
        arguments = {"objective": "dpo", "draw_design": "iid", "eval_num_draws": 3} | arguments
        trainer = trainer_of(data, eval_rows=data, **arguments)
        assert trainer.evaluate()["eval_loss"] == pytest.approx(0.6931, abs=1e-3)
