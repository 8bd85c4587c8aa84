"""Files of thumbs, pairs and prompts, and a short training run."""

from collections.abc import Callable
from typing import Any

import pytest
from command_files import PAIRS, THUMBS, write_rows


@pytest.fixture(autouse=True)
def _quiet(quiet_transformers):
    """No bars."""


@pytest.fixture
def thumbs(tmp_path) -> str:
    return write_rows(tmp_path / "thumbs.jsonl", THUMBS)


@pytest.fixture
def pairs(tmp_path) -> str:
    return write_rows(tmp_path / "pairs.jsonl", PAIRS)


@pytest.fixture
def train(unveil, base, thumbs, tmp_path) -> Callable[..., Any]:
    """`train("--beta", 1)`: `unveil train` on the thumbs into `out`, three steps of four; given flags win."""

    def run(*words: object) -> Any:
        return unveil(
            "train", "--model_name_or_path", base, "--dataset_name", thumbs, "--output_dir", tmp_path / "out",
            "--per_device_train_batch_size", 4, "--learning_rate", 1e-3, "--logging_steps", 1, "--use_cpu", "--seed", 1,
            *words,
        )  # fmt: skip

    return run
