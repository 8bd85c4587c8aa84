"""One rank of `test_uneven_batches.py`: an epoch of several runs whose last batch is not full.

    python uneven_worker.py OUTPUT SIZE ROWS ACCUMULATION [CASE ...]

SIZE rows per device step over all processes (the share of one is SIZE / WORLD_SIZE).
"""

import os
import sys
from itertools import chain
from typing import Any

import torch
from datasets import Dataset
from one_pass import make_groups, perturbed
from worker_results import handed_over, logs_of

from unveil.models import LLaDAConfig, LLaDAModelLM
from unveil.training import PreferenceConfig, PreferenceTrainer, SFTConfig, SFTTrainer

CASES: dict[str, dict[str, Any]] = {
    "kto": {"objective": "kto", "replay_weight": 0.5, "replay_batch_size": 3},
    "trl_kl": {"objective": "kto", "baseline": "trl_kl"},
    "skipped": {"objective": "kto", "baseline": "zero", "row_budget": 0.5},
    "dpo": {"objective": "dpo"},
    "cross_fit": {"objective": "dpo", "debias": "cross_fit", "draw_design": "iid"},
    "lists": {"objective": "rankdpo", "num_draws_weight": 5},
    "precomputed": {"objective": "dpo", "precompute_ref_log_probs": True},
    "sft": {},
}


def thumbs(count: int, labels: bool = True) -> list[dict]:
    """One answer each of a list of pairs, so that prompts differ."""
    rows = []
    for i, group in enumerate(make_groups(count, seed=5)):
        row = group["responses"][0] | {"example_id": i}
        rows.append(row | {"label": bool(i % 3)} if labels else row)
    return rows


def trainer_of(name: str, output: str, size: int, count: int, accumulation: int) -> Any:
    torch.manual_seed(0)
    config = LLaDAConfig(
        d_model=16, n_layers=2, n_heads=2, mlp_hidden_size=24, vocab_size=24, embedding_size=24, mask_token_id=1,
        eos_token_id=0, pad_token_id=0, max_sequence_length=64,
    )  # fmt: skip
    reference = LLaDAModelLM(config).double().eval()
    reference.register_buffer("scale", torch.ones(1))  # networks with buffers send them in every pass
    policy, case = perturbed(reference, size=0.1), CASES[name]
    world = int(os.environ.get("WORLD_SIZE", "1"))
    shared: dict[str, Any] = {
        "output_dir": output, "use_cpu": True, "ddp_backend": "gloo" if world > 1 else None, "report_to": "none",
        "disable_tqdm": True, "save_strategy": "no", "per_device_train_batch_size": size // world,
        "gradient_accumulation_steps": accumulation, "learning_rate": 1e-2, "lr_scheduler_type": "constant",
        "warmup_steps": 0, "num_draws": 3, "tokens_per_batch": 24, "logging_steps": 1, "eval_strategy": "epoch",
        "per_device_eval_batch_size": 2, "dataloader_pin_memory": False, "kept_tokens": 0,
    }  # fmt: skip
    if name == "sft":
        data = Dataset.from_list(thumbs(count, labels=False))
        return SFTTrainer(policy, SFTConfig(**shared), train_dataset=data, eval_dataset=data.select(range(5)))
    shape = "lists" if name == "lists" else "pairs"
    rows = thumbs(count) if case["objective"] == "kto" else make_groups(count, shape)
    replay = Dataset.from_list(thumbs(6, labels=False)) if "replay_weight" in case else None
    return PreferenceTrainer(
        policy, PreferenceConfig(**shared, **case), train_dataset=Dataset.from_list(rows), ref_model=reference,
        eval_dataset=Dataset.from_list(rows[:5]), replay_dataset=replay,
    )  # fmt: skip


def main(output: str, size: int, count: int, accumulation: int, names: list[str]) -> dict[str, Any]:
    """Weights, log and rows of every step, by case."""
    found: dict[str, Any] = {}
    for name in names or list(CASES):
        trainer = trainer_of(name, output, size, count, accumulation)
        steps, plain = [], trainer.weigh

        def weigh(batches, steps=steps, plain=plain, trainer=trainer):
            shares = trainer.gathered([[[row["example_id"] for row in batch.rows] for batch in batches]])
            steps.append([list(chain(*parts)) for parts in zip(*shares)])
            plain(batches)

        trainer.weigh = weigh
        trainer.train()
        weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
        found[name] = {"weights": weights, "logs": logs_of(trainer), "steps": steps}
    return handed_over(found, trainer, output)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5:])
