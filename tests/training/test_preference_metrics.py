"""What is logged of pairs and lists: comparisons within prompts, every pair counted, whatever the evaluation batch."""

import itertools

import pytest
import torch
from one_pass import OnePass, horvitz_thompson, make_groups, perturbed

from unveil.objectives import RECIPES, jackknife, kto
from unveil.training.preference_metrics import kto_term, pair_accuracy, preference_metrics, ranking_accuracy
from unveil.training.scored import Batch, Scored

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}


def scored(prompt, name, relevance, best, margin):
    return Scored(name, (0, 0, prompt), relevance, best, 5, margin - 10.0, -10.0, 0.1)


def test_accuracy_counts_comparisons_within_prompts_ties_half():
    records = [
        scored(0, 0, 1.0, True, 2.0), scored(0, 1, 0.0, False, 1.0),  # right
        scored(1, 2, 3.0, True, 0.0), scored(1, 3, 1.0, False, 1.0), scored(1, 4, 0.0, False, 0.0),  # wrong, tie, right
        scored(2, 5, 1.0, False, 9.0), scored(2, 6, 1.0, False, -9.0),  # no comparison
    ]  # fmt: skip
    assert pair_accuracy(records) == {"rewards/accuracies": (1 + 0 + 0.5 + 1) / 4}
    assert pair_accuracy(records[-2:]) == {}


def test_accuracy_of_thumbs_needs_the_two_halves_of_every_pair():
    records = [scored(i, i, float(i % 2 == 0), i % 2 == 0, margin) for i, margin in enumerate([1.0, 0.0, -1.0, 2.0])]
    assert pair_accuracy(records) == {"rewards/accuracies": 0.5}
    assert pair_accuracy(records[:3]) == {}


def test_accuracy_of_thumbs_of_two_sources_with_the_same_ids_counts_every_pair():
    margins = [1.0, 0.0, 2.0, 3.0]  # the pair of the first source is right, that of the second wrong
    records = [scored(i, i % 2, float(i % 2 == 0), i % 2 == 0, margin) for i, margin in enumerate(margins)]
    assert pair_accuracy(records) == {"rewards/accuracies": 0.5}


def test_auc_compares_over_all_prompts():
    records = [scored(0, 0, 1.0, True, 2.0), scored(0, 1, 0.0, False, 1.0), scored(1, 2, 1.0, True, 0.0),
               scored(1, 3, 0.0, False, 0.0)]  # fmt: skip
    assert ranking_accuracy(records) == {"rewards/auc": (1 + 1 + 0 + 0.5) / 4}
    assert ranking_accuracy(records[:1]) == {}


def test_gaps_are_of_best_answers_against_the_mean_of_the_others():
    records = [scored(0, 0, 2.0, True, 3.0), scored(0, 1, 1.0, False, 1.0), scored(0, 2, 0.0, False, -1.0),
               scored(1, 3, 1.0, True, 5.0), scored(1, 4, 0.0, False, 1.0), scored(2, 5, 1.0, False, 1.0)]  # fmt: skip
    batch = Batch(records)
    assert batch.shape == (3, 3)
    assert batch.gaps([r.margin for r in records]).tolist() == [3.0, 4.0]
    assert batch.per_answer(batch.array([r.margin for r in records])) == [r.margin for r in records]
    assert batch.feedback().mask.tolist() == [[True, True, True], [True, True, False], [True, False, False]]


def test_the_kto_of_a_sum_or_a_jackknife_is_found():
    assert kto_term(jackknife(kto(0.3) + 0.1 * RECIPES["sft"].make())) == kto(0.3)
    assert kto_term(RECIPES["dpo"].make()) is None


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.needs_reference])
def test_metrics_of_the_first_step_are_those_of_equal_models(name):
    """Every margin is 0: rewards, margins and saturation are those of 0, whatever the objective."""
    recipe = RECIPES[name]
    records = [scored(i // 2, i, float(i % 2 == 0), i % 2 == 0, 0.0) for i in range(4)]
    metrics = preference_metrics(records, recipe.make())
    assert metrics["rewards/margins"] == 0.0
    assert metrics["saturation/mean_abs"] == 0.0
    assert metrics["logps/chosen"] == -10.0


@pytest.mark.parametrize("name", ["dpo", "bco_pair", "plackett_luce", "simpo", "ld_dpo"])
def test_evaluation_does_not_depend_on_its_batch_size(tiny_llada, trainer_of, name):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    data = make_groups(5, RECIPES[name].shape)
    found = []
    for size in (1, 2, 5):
        trainer = trainer_of(
            data, perturbed(reference), eval_rows=data, objective=name, per_device_eval_batch_size=size,
            trainer_arguments={"ref_model": reference},
        )  # fmt: skip
        found.append(trainer.evaluate())
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-9)


def test_evaluation_counts_every_pair_made_of_one_list(tiny_llada, trainer_of):
    """All six pairs have the prompt's example_id or another answer's: none overwrites another."""
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy = perturbed(reference, size=0.2)
    four = next(row for row in make_groups(3, "lists") if len(row["responses"]) == 4)
    order = sorted(range(4), key=lambda i: -four["relevance"][i])
    pairs = [
        {"example_id": four["example_id"], "responses": [four["responses"][a], four["responses"][b]],
         "relevance": [1.0, 0.0], "score": [0.0, 0.0], "rank": [1, 2]}
        for a, b in itertools.combinations(order, 2)
    ]  # fmt: skip
    for size in (1, 4, 6):
        trainer = trainer_of(
            pairs, policy, eval_rows=pairs, objective="dpo", per_device_eval_batch_size=size,
            trainer_arguments={"ref_model": reference}, draws="fixed",
        )  # fmt: skip
        metrics = trainer.evaluate()
        records = [r for row in pairs for r in trainer._scored(trainer.prepare([row], -1), -1)]
        margins = [(a.margin, b.margin) for a, b in zip(records[::2], records[1::2])]
        assert metrics["eval_rewards/accuracies"] == sum(a > b for a, b in margins) / 6
        assert metrics["eval_rewards/margins"] == pytest.approx(sum(0.1 * (a - b) for a, b in margins) / 6)


def test_evaluation_gives_the_loss_of_its_own_fixed_draws(tiny_llada, trainer_of, monkeypatch):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), make_groups(4, "lists")
    trainer = trainer_of(
        data, policy, eval_rows=data, objective="lipo", eval_num_draws=5, num_draws=2,
        trainer_arguments={"ref_model": reference},
    )  # fmt: skip
    import one_pass

    plain = one_pass.plan
    monkeypatch.setattr(one_pass, "plan", lambda seed, name, epoch, *rest, **more: plain(seed, name, -1, *rest, **more))
    case = OnePass(policy, reference, data, num_draws=5)
    loss = case.loss_of(RECIPES["lipo"].make(), horvitz_thompson())
    assert trainer.evaluate()["eval_loss"] == pytest.approx(loss.item(), rel=1e-9)
