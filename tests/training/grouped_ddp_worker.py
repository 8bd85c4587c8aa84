"""One rank of `test_grouped_world_size.py`: one step of several objectives on prompts with their candidates.

python -m torch.distributed.run --nproc_per_node 2 grouped_ddp_worker.py OUTPUT PER_DEVICE_BATCH
"""

import os
import sys
from typing import Any

import torch
from datasets import Dataset
from one_pass import make_groups, perturbed
from worker_results import handed_over, logs_of

from unveil.models import LLaDAConfig, LLaDAModelLM
from unveil.training import PreferenceConfig, PreferenceTrainer

# Of the pairs of `hinge` some are satisfied: ranks then have different numbers of rows in pass 2.
CASES: list[dict[str, Any]] = [
    {"objective": "dpo"},
    {"objective": "rankdpo", "num_draws_weight": 5},
    {"objective": "hinge", "beta": 3.0},
    {"objective": "irpo"},
    {"objective": "bco"},
]


def rows_for(name: str) -> list[dict]:
    if name == "irpo":
        return make_groups(8, "lists", parts="spans")
    return make_groups(8, "lists" if name == "rankdpo" else "pairs")


def main(output: str, batch: int) -> dict[str, Any]:
    """Gradient, log and what is remembered, by objective."""
    torch.manual_seed(0)
    config = LLaDAConfig(
        d_model=16, n_layers=2, n_heads=2, mlp_hidden_size=24, vocab_size=24, embedding_size=24, mask_token_id=1,
        eos_token_id=0, pad_token_id=0, max_sequence_length=64,
    )  # fmt: skip
    reference = LLaDAModelLM(config).double().eval()
    found: dict[str, Any] = {}
    for case in CASES:
        policy = perturbed(reference, size=0.1)
        data, gradients = rows_for(case["objective"]), []
        args = PreferenceConfig(
            output_dir=output, use_cpu=True, ddp_backend="gloo" if "WORLD_SIZE" in os.environ else None,
            report_to="none", disable_tqdm=True, save_strategy="no", max_steps=1, per_device_train_batch_size=batch,
            train_sampling_strategy="sequential", warmup_steps=0, num_draws=3, tokens_per_batch=40, logging_steps=1,
            max_grad_norm=0.0, dataloader_pin_memory=False, kept_tokens=0, eval_strategy="steps", eval_steps=1,
            per_device_eval_batch_size=2, **case,
        )  # fmt: skip
        trainer = PreferenceTrainer(
            policy, args, train_dataset=Dataset.from_list(data), eval_dataset=Dataset.from_list(data[:5]),
            ref_model=perturbed(reference, seed=2, size=0.0),
        )  # fmt: skip
        trainer.create_optimizer()
        trainer.optimizer.register_step_pre_hook(
            lambda *_, kept=gradients, model=policy: kept.extend(p.grad.clone() for p in model.parameters())
        )
        trainer.train()
        state = trainer.objective_state.values
        found[case["objective"]] = {"grads": gradients, "logs": logs_of(trainer)[:2], "state": state}
    return handed_over(found, trainer, output)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
