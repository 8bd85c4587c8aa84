"""Small labelled data and trainers on the tiny LLaDA."""

import gc

import numpy as np
import pytest
import torch
from datasets import Dataset

from unveil.training import PreferenceConfig, PreferenceTrainer

# The end of every run collects garbage. Modules are none: left out of it, a run takes a third of the time.
gc.freeze()


def make_rows(count: int, seed: int = 0, labels: bool = True, longest: int = 9) -> list[dict]:
    """Tokenised answers of unequal lengths over the tiny vocabulary."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        prompt, answer = generator.integers(1, 6), generator.integers(1, longest)
        row = {
            "example_id": i,
            "prompt_ids": generator.integers(4, 20, prompt).tolist(),
            "completion_ids": [*generator.integers(4, 20, answer).tolist(), 0],
            "tail_ids": [0] * int(i % 3),
            "truncated": False,
        }
        rows.append(row | {"label": bool(i % 2)} if labels else row)
    return rows


@pytest.fixture
def rows():
    return make_rows


@pytest.fixture
def trainer_of(tiny_llada, tmp_path):
    """`trainer_of(rows, model=None, **arguments)` -> a PreferenceTrainer on the CPU, quiet and without saves."""

    def make(rows, model=None, eval_rows=None, replay_rows=None, trainer_arguments=None, **arguments):
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
            "save_strategy": "no",
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "dataloader_pin_memory": False,
        }
        model = model or tiny_llada(vocab_size=24, dtype=torch.float64)
        return PreferenceTrainer(
            model,
            PreferenceConfig(**{**defaults, **arguments}),
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(eval_rows) if eval_rows else None,
            replay_dataset=Dataset.from_list(replay_rows) if replay_rows else None,
            **(trainer_arguments or {}),
        )

    return make
