"""Every recipe of the table, on data of its shape: the two-pass gradient is that of one graph over everything."""

import pytest
import torch
from one_pass import OnePass, first_step, make_groups, perturbed, relative_gap

from unveil.objectives import RECIPES

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}
PARTS = {"irpo": "spans", "tree_po": "steps"}


def data_for(name, rows):
    """Rows of the shape that the objective takes."""
    shape = RECIPES[name].shape
    return rows(6) if shape == "unpaired" else make_groups(4, shape, parts=PARTS.get(name))


@pytest.mark.parametrize("name", RECIPES)
def test_two_pass_gradient_of_every_recipe_equals_one_pass_gradient(tiny_llada, trainer_of, rows, name):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), data_for(name, rows)
    objective = RECIPES[name].make()
    design = {"draw_design": "iid"} if objective.per_draw else {}
    case = OnePass(policy, reference, data, design=design.get("draw_design", "quadratic_tiling"))
    loss = case.loss_of(objective)
    step = first_step(trainer_of, policy, reference, data, objective=name, num_draws=3, tokens_per_batch=64, **design)
    assert step.loss == pytest.approx(loss.item(), rel=1e-6, abs=1e-6)
    assert relative_gap(step.grads, case.gradient(loss)) < 1e-10


@pytest.mark.parametrize("name", ["dpo", "bco", "beta_dpo", "irpo", "rankdpo", "disco", "ld_dpo", "kto"])
def test_cutting_a_batch_of_prompts_changes_nothing(tiny_llada, trainer_of, rows, name):
    """Device batches of 1, 2 and 4 prompts, in 4, 2 and 1 accumulation steps."""
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), data_for(name, rows)[:4]
    steps = [
        first_step(
            trainer_of,
            policy,
            reference,
            data,
            objective=name,
            num_draws=2,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=4 // size,
        )
        for size in (4, 2, 1)
    ]
    for step in steps[1:]:
        assert step.loss == pytest.approx(steps[0].loss, rel=1e-6)
        assert relative_gap(step.grads, steps[0].grads) < 1e-10


def test_candidates_share_their_mask_ratios_unless_told_otherwise(tiny_llada, trainer_of):
    """One name for the sizes of a prompt: answers of one length hide as many tokens in every draw."""
    (row,) = make_groups(1)
    answers = [[5, 6, 7, 8, 9, 10, 11, 0], [11, 10, 9, 8, 7, 6, 5, 0]]
    for response, ids in zip(row["responses"], answers):
        response["completion_ids"] = ids
    data, model = [row | {"example_id": 2 * i} for i in range(8)], tiny_llada(vocab_size=24, **SMALL)
    for i, one in enumerate(data):
        one["responses"] = [r | {"example_id": 2 * i + k} for k, r in enumerate(row["responses"])]

    def sizes(share):
        trainer = trainer_of(data, model, objective="dpo", share_sizes=share)
        drawn = [[len(p) for p in plan.positions] for plan in trainer.prepare(data, 0).plans]
        return drawn[::2], drawn[1::2]

    chosen, rejected = sizes(True)
    assert chosen == rejected
    chosen, rejected = sizes(False)
    assert chosen != rejected
