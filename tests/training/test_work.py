"""Forward passes in the logs: what was run, however it was batched, and over resumes."""

import json

import pytest
import torch
from one_pass import make_groups
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unveil.training import SFTConfig, SFTTrainer, add_adapters, checkpoint_to_resume

DRAWS = 3
SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}
ARGUMENTS = {"num_draws": DRAWS, "max_steps": 2, "objective": "dpo", "kept_tokens": 0, "per_device_train_batch_size": 4}


def forwards(trainer) -> list[float]:
    trainer.train()
    return [line["num_forwards"] for line in trainer.state.log_history if "num_forwards" in line]


@pytest.fixture
def small(tiny_llada):
    return lambda: tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)


@pytest.mark.parametrize(
    ("per_row", "more"),
    [
        (3, {}),
        (2, {"precompute_ref_log_probs": True}),
        (2, {"objective": "simpo"}),
        (2, {"kept_tokens": 10**6}),
        (5, {"num_draws_weight": 2 * DRAWS}),
    ],
)
def test_every_row_through_a_network_counts(trainer_of, small, per_row, more):
    """Policy, live reference, second pass: 4 pairs under 3 draws. Values computed before, graphs kept: no forward."""
    rows = 4 * 2 * DRAWS
    assert forwards(trainer_of(make_groups(8), small(), **{**ARGUMENTS, **more})) == [
        per_row * rows, 2 * per_row * rows, 2 * per_row * rows,
    ]  # fmt: skip


def test_adapters_switched_off_are_a_network_too(trainer_of, small):
    assert forwards(trainer_of(make_groups(8), add_adapters(small(), r=2, alpha=4), **ARGUMENTS))[0] == 3 * 4 * 2 * 3


def test_answers_under_other_prompts_count(trainer_of, small, rows):
    arguments = {**ARGUMENTS, "objective": "kto", "baseline": "trl_kl"}
    assert forwards(trainer_of(rows(8), small(), **arguments))[0] == 5 * 4 * DRAWS


def test_the_batch_split_and_evaluation_change_nothing(trainer_of, small):
    arguments = ARGUMENTS | {"objective": "hinge", "beta": 3.0}
    counts = [
        forwards(trainer_of(make_groups(8), small(), **arguments | more))
        for more in (
            {},
            {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
            {"tokens_per_batch": 20},
            {"eval_rows": make_groups(3), "eval_strategy": "steps", "eval_steps": 1},
        )
    ]
    assert counts[1:] == counts[:1] * 3


@pytest.mark.parametrize(
    ("adapted", "more"),
    [
        (False, {}),
        (True, {}),
        (True, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}),
        (False, {"objective": "kto", "replay_weight": 0.5, "replay_batch_size": 5, "num_draws_weight": 5}),
        (False, {"objective": "simpo", "kept_tokens": 10**6, "eval_strategy": "no"}),
    ],
)
def test_total_flops_are_those_that_torch_counts(trainer_of, tiny_llada, rows, adapted, more):
    """Pass 1, reference, pass 2 and replay; under LoRA no gradient of frozen weights."""
    model = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    model = add_adapters(model, r=2, alpha=4) if adapted else model
    thumbs = "replay_weight" in more
    trainer = trainer_of(
        rows(8, longest=30) if thumbs else make_groups(8, longest=30), model,
        replay_rows=rows(6, labels=False) if thumbs else None, **{**ARGUMENTS, **more},
    )  # fmt: skip
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        trainer.train()
    assert trainer.state.total_flos == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_evaluation_adds_no_flops_to_those_of_the_run(trainer_of, small):
    found = []
    for evaluated in ("no", "steps"):
        trainer = trainer_of(
            make_groups(8), small(), eval_rows=make_groups(3), eval_strategy=evaluated, eval_steps=1, **ARGUMENTS
        )
        trainer.train()
        found.append(trainer.state.total_flos)
    assert found[0] == found[1] > 0


@pytest.mark.parametrize("stop_after", [2, 3, 5])
def test_counts_go_on_where_the_checkpoint_was(trainer_of, small, tmp_path, stop_after):
    """Saved every 2 steps, logged every 3: what was not logged yet is in the checkpoint."""

    def fresh(folder):
        arguments = ARGUMENTS | {"max_steps": 6, "logging_steps": 3, "save_strategy": "steps", "save_steps": 2}
        return trainer_of(make_groups(24), small(), output_dir=str(tmp_path / folder), **arguments)

    fresh("whole").train()
    cut = fresh("cut")
    plain = cut.training_step

    def stop(*args, **kwargs):
        if cut.state.global_step == stop_after:
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    cut.training_step = stop
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    fresh("cut").train(resume_from_checkpoint=checkpoint_to_resume(str(tmp_path / "cut"), True))
    lines = [
        [json.loads(line) for line in (tmp_path / folder / "metrics.jsonl").read_text().splitlines()]
        for folder in ("whole", "cut")
    ]
    counts = [[(x["step"], x["num_tokens"], x["num_forwards"]) for x in part if "num_forwards" in x] for part in lines]
    assert [step for step, *_ in counts[0]] == [3, 6, 6]
    assert counts[0] == counts[1]


def test_a_step_that_was_not_finished_is_not_in_the_checkpoint(trainer_of, small, tmp_path):
    trainer = trainer_of(make_groups(8), small(), **ARGUMENTS)
    trainer.train()
    done = trainer.forward_count.total
    trainer.begin_step()
    trainer._scored(trainer.prepare(make_groups(2), 0), 0)
    with pytest.raises(ValueError, match="row 0"):
        trainer.stop_if_not_finite([0], [float("nan")])
    [state] = (tmp_path / "run").glob("checkpoint-*/trainer_state.json")
    saved = json.loads(state.read_text())["stateful_callbacks"]["ForwardCount"]
    assert saved["attributes"]["total"] == done > 0


def test_supervised_training_has_one_forward_per_row(small, rows, tmp_path):
    from datasets import Dataset

    arguments = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no",
        logging_steps=1, max_steps=2, per_device_train_batch_size=4, num_draws=DRAWS, dataloader_pin_memory=False,
    )  # fmt: skip
    data = Dataset.from_list(rows(8, labels=False))
    assert forwards(SFTTrainer(small(), arguments, train_dataset=data)) == [12, 24, 24]
