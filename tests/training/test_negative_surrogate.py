"""--negative_surrogate: answers that are pushed down are scored by a bound from above, on the same draws."""

import pytest
import torch
from one_pass import OnePass, first_step, horvitz_thompson, make_groups, perturbed, relative_gap

from unveil.errors import UserError
from unveil.objectives import RECIPES

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}


def upper(log_p, drawn, length, power):
    """`(L / covered) / b sum_i log sum_k W_k p_k[i]^b` over the tokens that some draw covers."""
    terms = [[] for _ in range(length)]
    for weight, places, values in zip(drawn.weights, drawn.positions, log_p):
        for place, value in zip(places, values):
            terms[place].append(weight * torch.exp(power * value))
    covered = [torch.stack(term).sum().log() for term in terms if term]
    return length / len(covered) / power * torch.stack(covered).sum()


def surrogate_with(kind, power=1.5):
    """The ELBO of the best answers, the bound of all others."""
    linear = horvitz_thompson()

    def surrogate(case, prompt, candidate, log_p):
        elbo = linear(case, prompt, candidate, log_p)
        row = case.rows[prompt]
        said = row["relevance"] if "responses" in row else [float(row["label"]), 0.5]
        if said[candidate] == max(said):
            return elbo
        length = case.responses[prompt][candidate].length
        found = upper(log_p, case.plans[prompt][candidate], length, length if kind == "holder" else power)
        return 0.5 * (found + elbo) if kind == "mix" else found

    return surrogate


@pytest.mark.parametrize("kind", ["eubo", "mix", "holder"])
@pytest.mark.parametrize("name", ["kto", "dpo", "rankdpo", "simpo"])
def test_gradient_is_that_of_the_bound_on_the_same_draws(tiny_llada, trainer_of, rows, name, kind):
    """`simpo` has no reference. Two draws leave some tokens uncovered."""
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    shape = RECIPES[name].shape
    policy, data = perturbed(reference), rows(4) if shape == "unpaired" else make_groups(3, shape)
    case = OnePass(policy, reference, data, num_draws=2, design="iid")
    loss = case.loss_of(RECIPES[name].make(), surrogate_with(kind, 2.0))
    arguments = {"num_draws": 2, "draw_design": "iid", "negative_surrogate": kind, "eubo_power": 2.0}
    step = first_step(trainer_of, policy, reference, data, objective=name, tokens_per_batch=40, **arguments)
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative_gap(step.grads, case.gradient(loss)) < 1e-10


@pytest.mark.parametrize("kind", ["eubo", "mix", "holder"])
def test_only_answers_that_are_pushed_down_have_another_surrogate(tiny_llada, trainer_of, kind):
    model = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    data = make_groups(4, "lists")
    plain, bound = (
        trainer._scored(trainer.prepare(data, 0), 0)
        for trainer in (
            trainer_of(data, model, objective="lipo", **more) for more in ({}, {"negative_surrogate": kind})
        )
    )
    for one, other in zip(plain, bound, strict=True):
        assert (one.policy == other.policy) == one.best
        assert other.policy == other.reference
    assert {record.best for record in plain} == {True, False}


def test_pushed_down_answers_do_not_disturb_the_check_of_the_two_passes(tiny_llada, trainer_of):
    """The second pass sums slopes there, which are no likelihood."""
    model = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    step = first_step(trainer_of, model, None, make_groups(2), objective="dpo", negative_surrogate="eubo")
    assert step.logs["elbo/passes_gap"] < 1e-12


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num_draws_weight": 8}, "--num_draws_weight"),
        ({"debias": "jackknife", "draw_design": "iid"}, "--debias"),
        ({"debias": "cross_fit", "draw_design": "iid"}, "--debias"),
        ({"combiner": "hajek"}, "--combiner"),
        ({"objective": "ld_dpo"}, "--objective ld_dpo"),
        ({"eubo_power": 0.0}, "--eubo_power"),
        ({"negative_surrogate": "upper"}, "--negative_surrogate"),
    ],
)
def test_what_does_not_go_with_a_nonlinear_surrogate_is_refused(trainer_of, arguments, named):
    with pytest.raises(UserError, match=named) as told:
        trainer_of(make_groups(2), **{"objective": "dpo", "negative_surrogate": "eubo", **arguments})
    assert "\n" not in str(told.value)
