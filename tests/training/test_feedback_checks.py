"""Every objective on every form of data trains with a gradient, or is refused in words; what it cannot use is told."""

import warnings

import pytest
import torch
from datasets import Dataset
from one_pass import first_step, make_groups, perturbed

from unveil.data import to_shape, tokenize_groups, tokenize_responses
from unveil.errors import UserError, UserInputWarning
from unveil.objectives import RECIPES
from unveil.training.feedback_checks import (
    refuse_missing_columns,
    refuse_what_teaches_nothing,
    tell_of_idle_columns,
)

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}
PROMPTS = ["p", "q", "r"]
THUMBS = [
    {"prompt": p, "completion": f" {text} {p}", "label": label}
    for p in PROMPTS
    for text, label in (("good", True), ("very bad", False))
]
PAIRS = [{"prompt": p, "chosen": f" good {p}", "rejected": f" very bad {p}"} for p in PROMPTS]
LISTS = [{"prompt": p, "completions": [f" good {p}", " fair", f" bad bad {p}"]} for p in PROMPTS]
STEPS = [[[" good", f" {p}"], [" fair"], [" bad", " bad"]] for p in PROMPTS]
FORMS = {
    "thumbs": THUMBS,
    "pairs": PAIRS,
    "scored pairs": [row | {"score_chosen": 2.0, "score_rejected": 0.5} for row in PAIRS],
    "grades 1 to 5": [row | {"scores": [5, 3, 1]} for row in LISTS],
    "grades 0 and 1": [row | {"scores": [1, 0, 0]} for row in LISTS],
    "shares below 0": [row | {"scores": [-0.5, -1.0, -3.0]} for row in LISTS],
    "ranked": [row | {"relevance": [2, 1, 0], "rank": [2, 1, 3], "score": [0.5, 0.1, -2.0]} for row in LISTS],
    "steps": [
        row | {"scores": [2, 1, 0], "steps": steps, "step_weights": [[2, 1], [1], [1, 0.5]]}
        for row, steps in zip(LISTS, STEPS)
    ],
    "graded rows": [
        {"prompt": p, "completion": f" {text} {p}", "score": score}
        for p in PROMPTS
        for text, score in (("good", 4.0), ("fair", 2.0), ("very bad", 1.0))
    ],
    "spans": [
        {"prompt": p, "completion": f"one two {p}", "spans": ["one", "two", p], "relevance": [2, 0, 1]} for p in PROMPTS
    ],
}


def tokens_for(name, form, tokenizer):
    """Rows of a form for an objective, read as the commands read them, with the choices that they ask for."""
    objective = RECIPES[name].make()
    given = Dataset.from_list(FORMS[form])
    choices = {}
    if objective.shape == "pairs" and form not in ("pairs", "scored pairs"):
        choices["pairing"] = "best_worst"
    cut = objective.shape == "unpaired" or name == "disco"
    if cut and form in ("grades 1 to 5", "graded rows", "ranked", "steps", "shares below 0"):
        choices["threshold"] = -0.75 if form == "shares below 0" else 1.5
    rows = to_shape(
        given, objective.shape, form, objective=name, liked=objective.splits_at_zero, allow_one_label=True, **choices
    )
    refuse_missing_columns(objective, name, rows.column_names, form)
    refuse_what_teaches_nothing(objective, name, rows, form)
    tokenize = tokenize_groups if "relevance" in rows.column_names else tokenize_responses
    return list(tokenize(rows, tokenizer, max_length=48, mask_token_id=1, source=form))


REFUSED = {
    **{(name, form): "needs a scorer's number for every answer, and there is no column score; add score_chosen"
       for name in ("madpo", "da_dpo", "soft_dpo") for form in ("thumbs", "pairs", "grades 0 and 1")},
    **{("irpo", form): "needs the place where every item was shown, and there is no column rank"
       for form in FORMS if form not in ("ranked", "spans")},
    ("irpo", "ranked"): "needs items that are parts of one answer, and there is no column spans",
    **{("tree_po", form): "needs weights of the steps of every answer, and there is no column step_weights"
       for form in FORMS if form != "steps"},
    **{(name, "spans"): "spans of one answer are compared as a list" for name in RECIPES
       if RECIPES[name].shape == "unpaired"},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::unveil.errors.UserInputWarning")
@pytest.mark.parametrize("all_forms", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", RECIPES)
def test_every_objective_on_every_form_trains_with_a_gradient_or_is_refused_in_words(
    tiny_llada, trainer_of, toy_tokenizer, name, all_forms
):
    """Every form is read and looked at; a step is taken on the first that serves, and when slow on all."""
    reference = tiny_llada(**SMALL)
    design = {"draw_design": "iid"} if RECIPES[name].per_draw else {}
    trained = []
    for form in FORMS:
        if told := REFUSED.get((name, form)):
            with pytest.raises(UserError, match=told) as error:
                tokens_for(name, form, toy_tokenizer)
            assert "\n" not in str(error.value)
            continue
        data = tokens_for(name, form, toy_tokenizer)
        if trained and not all_forms:
            continue
        step = first_step(trainer_of, reference, reference, data, objective=name, num_draws=2, **design)
        assert sum(float(grad.abs().sum()) for grad in step.grads) > 0, form
        assert torch.isfinite(torch.tensor(step.loss))
        trained.append(form)
    assert trained


@pytest.mark.parametrize(
    ("name", "rows", "told"),
    [
        ("disco", [row | {"relevance": [3.0, 1.0]} for row in make_groups(3)],
         "--objective disco sets liked answers .* against disliked ones, and there are not both at all: every "
         "relevance is above 0; give --threshold NUMBER"),
        ("disco", [row | {"relevance": [v, v]} for row, v in zip(make_groups(2), (1.0, 0.0))],
         "there are not both in one and the same prompt"),
        ("kto", [row | {"relevance": [3.0, 1.0]} for row in make_groups(3)], "every relevance is above 0"),
        ("asft", [row | {"relevance": [0.0, -1.0]} for row in make_groups(3)], "every relevance is 0 or less"),
        ("rankdpo", [row | {"relevance": [2.0, 2.0]} for row in make_groups(3)],
         "no row teaches --objective rankdpo anything: no prompt has a better and a worse answer"),
        ("soft_dpo", [row | {"score": [2.0, 2.0]} for row in make_groups(3)],
         "the scores of a prompt's answers are always the same; correct the column score"),
        ("dpo", [row | {"weight": 0.0} for row in make_groups(3)], "every weight is 0"),
        ("rankdpo", [row | {"relevance": [50.0, 2.0]} for row in make_groups(3)], "rescale the scores"),
    ],
)  # fmt: skip
def test_data_that_teach_an_objective_nothing_are_refused_before_training(tiny_llada, trainer_of, name, rows, told):
    trainer = trainer_of(rows, tiny_llada(vocab_size=24, **SMALL), objective=name)
    with pytest.raises(UserError, match=told):
        trainer.train()
    assert trainer.state.global_step == 0


def test_dislikes_alone_teach_sft_nothing(tiny_llada, trainer_of, rows):
    trainer = trainer_of([row | {"label": False} for row in rows(4)], tiny_llada(vocab_size=24), objective="sft")
    with pytest.raises(UserError, match="no row teaches --objective sft anything: no answer is liked"):
        trainer.train()


@pytest.mark.parametrize(
    ("name", "column"),
    [("madpo", "score"), ("irpo", "rank"), ("irpo", "position_weights"), ("tree_po", "position_weights")],
)
@pytest.mark.parametrize("part", ["train_dataset", "eval_dataset"])
def test_a_trainer_refuses_rows_without_a_column_that_its_objective_needs(tiny_llada, trainer_of, name, column, part):
    shape, parts = RECIPES[name].shape, {"irpo": "spans", "tree_po": "steps"}.get(name)
    whole = make_groups(3, shape, parts=parts)
    bare = [{key: value for key, value in row.items() if key != column} for row in whole]
    data = {"train_dataset": (bare, None), "eval_dataset": (whole, bare)}[part]
    with pytest.raises(UserError, match=rf"^{part}: --objective {name} needs .*; add "):
        trainer_of(data[0], tiny_llada(vocab_size=24, **SMALL), eval_rows=data[1], objective=name)


def test_prompts_of_one_kind_keep_training_where_others_have_both(tiny_llada, trainer_of):
    """As published, a list without both labels counts and pulls nowhere."""
    reference = tiny_llada(vocab_size=24, **SMALL)
    data = [row | {"relevance": value} for row, value in zip(make_groups(2), ([1.0, 0.0], [1.0, 1.0]))]
    step = first_step(trainer_of, perturbed(reference), reference, data, objective="disco")
    assert step.loss != 0


@pytest.mark.parametrize(
    ("name", "rows", "told"),
    [
        ("dpo", FORMS["scored pairs"], "score_chosen, score_rejected"),
        ("kto", FORMS["scored pairs"], "score_chosen, score_rejected"),
        ("madpo", FORMS["scored pairs"], None),
        ("dpo", PAIRS, None),
        ("dpo", [row | {"score": 0.7, "rank": 3, "steps": 5, "gap": "large"} for row in PAIRS], None),
        ("dpo", [row | {"margin": 1.0, "weight": 2.0} for row in PAIRS], None),
        ("kto", [row | {"margin": 1.0, "weight": 2.0} for row in PAIRS], "margin"),
        ("kto", [row | {"margin": 1.0} for row in THUMBS], "margin"),
        ("rankdpo", FORMS["ranked"], "rank, score"),
        ("rankdpo", FORMS["graded rows"], None),
        ("rankdpo", FORMS["steps"], None),
        ("rankdpo", [{k: v for k, v in row.items() if k != "step_weights"} for row in FORMS["steps"]], "steps"),
        ("irpo", [row | {"rank": [1, 2, 3]} for row in FORMS["spans"]], None),
    ],
)
def test_columns_of_ours_that_an_objective_does_not_read_are_told_in_one_warning(name, rows, told):
    objective = RECIPES[name].make()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserInputWarning)
        tell_of_idle_columns(objective, name, Dataset.from_list(rows), False, "f")
    plural = "s" if told and "," in told else ""
    expected = [f"f: --objective {name} does not read the column{plural} {told}: without effect"] if told else []
    assert [str(one.message) for one in caught] == expected


def test_a_curriculum_reads_scores_and_gaps():
    rows = [row | {"gap": 1.0} for row in FORMS["scored pairs"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_of_idle_columns(RECIPES["dpo"].make(), "dpo", Dataset.from_list(rows), True, "f")
