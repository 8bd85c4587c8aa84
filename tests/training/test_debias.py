"""--debias: draws get slopes of their own, those of the formulas written out on one graph."""

import pytest
import torch
from one_pass import OnePass, each_draw, first_step, make_groups, perturbed, relative_gap

from unveil.errors import UserError
from unveil.objectives import RECIPES, dpo, jackknife, sft, total_loss, weights
from unveil.training import PreferenceConfig

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}
# Flags, and how many draws depend on one another.
GROUPS = {
    "iid": ({"draw_design": "iid", "num_draws": 3}, 1),
    "mirrored": ({"draw_design": "mirrored", "num_draws": 4}, 2),
    "shared sizes": ({"draw_design": "iid", "num_draws": 6, "masks_per_size": 2}, 2),
}


def mean_over(likelihoods, chosen):
    """The surrogates from some of the draws."""
    return likelihoods._replace(
        policy=likelihoods.policy[chosen].mean(0), reference=likelihoods.reference[chosen].mean(0)
    )


def jackknife_loss(objective, likelihoods, feedback, per_group):
    """`G l(all) - (G - 1) mean_g l(without group g)`."""
    draws = range(len(likelihoods.policy))
    count = len(draws) // per_group
    without = [[j for j in draws if j // per_group != g] for g in range(count)]
    parts = [total_loss(objective, mean_over(likelihoods, chosen), feedback) for chosen in without]
    whole = total_loss(objective, mean_over(likelihoods, list(draws)), feedback)
    return count * whole - (count - 1) * torch.stack(parts).mean()


@pytest.mark.parametrize("kind", GROUPS)
@pytest.mark.parametrize("name", ["dpo", "kto", "plackett_luce"])
def test_jackknife_trains_on_the_jackknife_of_the_loss_over_independent_groups(
    tiny_llada, trainer_of, rows, name, kind
):
    arguments, per_group = GROUPS[kind]
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    shape = RECIPES[name].shape
    policy, data = perturbed(reference), rows(4) if shape == "unpaired" else make_groups(3, shape)
    case = OnePass(
        policy, reference, data, num_draws=arguments["num_draws"], design=arguments["draw_design"],
        masks_per_size=arguments.get("masks_per_size", 1),
    )  # fmt: skip
    loss = jackknife_loss(RECIPES[name].make(), case.likelihoods(each_draw), case.feedback(), per_group)
    step = first_step(trainer_of, policy, reference, data, objective=name, debias="jackknife", **arguments)
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative_gap(step.grads, case.gradient(loss)) < 1e-10
    plain = first_step(trainer_of, policy, reference, data, objective=name, **arguments)
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
@pytest.mark.parametrize(
    "design",
    ["quadratic_tiling", "coupled", "importance", "stratified", "systematic", "mirrored_stratified", "quadrature"],
)
def test_draws_that_are_not_alike_are_refused_with_the_flag_to_change(trainer_of, debias, design):
    with pytest.raises(UserError, match=rf"--debias {debias}: .*--draw_design {design}.*--draw_design iid") as told:
        trainer_of(make_groups(2), objective="dpo", debias=debias, draw_design=design, num_draws=4)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("debias", ["jackknife", "cross_fit"])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"draw_design": "mirrored", "num_draws": 2}, "--num_draws 2: .*groups of 2 draws.*; give 4"),
        ({"draw_design": "iid", "num_draws": 4, "masks_per_size": 4}, "--num_draws 4: .*groups of 4 draws.*; give 8"),
        ({"draw_design": "mirrored", "num_draws": 4, "eval_num_draws": 2}, "--eval_num_draws 2: "),
        ({"draw_design": "iid", "num_draws": 4, "masks_per_size": 2, "eval_num_draws": 5}, "--eval_num_draws 5: "),
    ],
)
def test_fewer_than_two_whole_groups_of_draws_are_refused_by_the_flags_alone(tmp_path, debias, flags, said):
    with pytest.raises(UserError, match=said) as told:
        PreferenceConfig(output_dir=str(tmp_path), objective="dpo", debias=debias, use_cpu=True, **flags)
    assert "\n" not in str(told.value)


def test_a_jackknife_of_ones_own_must_know_the_groups(trainer_of):
    flags = {"objective": "dpo", "draw_design": "mirrored", "num_draws": 4}
    trainer_of(make_groups(2), trainer_arguments={"objective": jackknife(dpo(), draws_per_group=2)}, **flags)
    with pytest.raises(UserError, match=r"give jackknife\(\.\.\., draws_per_group=2\)"):
        trainer_of(make_groups(2), trainer_arguments={"objective": jackknife(dpo()) + 0.1 * sft()}, **flags)
    flags["draw_design"] = "stratified"
    with pytest.raises(UserError, match="--draw_design stratified"):
        trainer_of(make_groups(2), trainer_arguments={"objective": jackknife(dpo())}, **flags)


@pytest.mark.parametrize("kind", ["mirrored", "shared sizes"])
def test_folds_hold_whole_groups_so_that_weight_and_gradient_share_no_mask(tiny_llada, trainer_of, kind):
    """Draws 2j and 2j + 1 are one permutation or one size; between folds they would correlate by a half."""
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), make_groups(3)
    arguments = GROUPS[kind][0] | {"num_draws": 4}
    case = OnePass(
        policy, reference, data, num_draws=4, design=arguments["draw_design"],
        masks_per_size=arguments.get("masks_per_size", 1),
    )  # fmt: skip
    objective, likelihoods, feedback = RECIPES["dpo"].make(), case.likelihoods(each_draw), case.feedback()
    total = torch.zeros(())
    for mine, others in (([0, 1], [2, 3]), ([2, 3], [0, 1])):
        _, slopes = weights(objective, mean_over(likelihoods, others), feedback)
        total = total + (slopes * likelihoods.policy[mine].sum(0) / 4).sum()
    step = first_step(trainer_of, policy, reference, data, objective="dpo", debias="cross_fit", **arguments)
    assert relative_gap(step.grads, case.gradient(total)) < 1e-10


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
