"""One rank of `test_world_size.py`: trains two steps on the CPU and lets the main process save what came out.

python -m torch.distributed.run --nproc_per_node 2 ddp_worker.py OUTPUT PER_DEVICE_BATCH
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from unveil.models import LLaDAConfig, LLaDAModelLM
from unveil.training import PreferenceConfig, PreferenceTrainer


def rows(count: int, labels: bool = True) -> list[dict]:
    generator = np.random.default_rng(3)
    made = []
    for i in range(count):
        answer = generator.integers(4, 20, generator.integers(1, 12)).tolist()
        row = {"example_id": i, "prompt_ids": [5, 6 + i % 3], "completion_ids": answer, "tail_ids": []}
        made.append(row | {"label": bool(i % 3)} if labels else row)
    return made


def main(output: str, batch: int) -> None:
    torch.manual_seed(0)
    config = LLaDAConfig(
        d_model=16, n_layers=2, n_heads=2, mlp_hidden_size=24, vocab_size=24, embedding_size=24, mask_token_id=1,
        eos_token_id=0, pad_token_id=0, max_sequence_length=64,
    )  # fmt: skip
    model = LLaDAModelLM(config).double()
    gradients = []
    backend = "gloo" if "WORLD_SIZE" in os.environ else None
    args = PreferenceConfig(
        output_dir=output, use_cpu=True, ddp_backend=backend, report_to="none", disable_tqdm=True, save_strategy="no",
        max_steps=2, per_device_train_batch_size=batch, train_sampling_strategy="sequential", learning_rate=1e-2,
        warmup_steps=0, num_draws=3, tokens_per_batch=24, logging_steps=1, max_grad_norm=0.0, replay_weight=0.5,
        replay_batch_size=4, eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=2,
        dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = PreferenceTrainer(
        model,
        args,
        train_dataset=Dataset.from_list(rows(16)),
        eval_dataset=Dataset.from_list(rows(5)),
        replay_dataset=Dataset.from_list(rows(6, labels=False)),
    )
    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(
        lambda *_: gradients.append(torch.cat([p.grad.flatten().clone() for p in model.parameters()]))
    )
    trainer.train()
    if trainer.is_world_process_zero():
        torch.save(gradients, Path(output) / "gradients.pt")
        timing = ("runtime", "per_second")
        history = [{k: v for k, v in line.items() if not k.endswith(timing)} for line in trainer.state.log_history]
        (Path(output) / "history.json").write_text(json.dumps(history))
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
