"""A tiny checkpoint on disk, files of thumbs, pairs and prompts, and commands run inside the test process."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from transformers.utils import logging

from unveil.cli.main import main

# One row in three is long, so that batches hold unequal answers.
THUMBS = [
    {"prompt": f"say {i}:", "completion": f" word{i % 4}" + " and more" * (i % 3), "label": i % 2 == 0} for i in range(12)
]
PAIRS = [
    {
        "prompt": [{"role": "user", "content": f"say {i}"}],
        "chosen": [{"role": "assistant", "content": f"good {i}"}],
        "rejected": [{"role": "assistant", "content": f"bad {i}"}],
    }
    for i in range(4)
]


class Outcome(NamedTuple):
    """What a command returned and printed."""

    code: int
    out: str
    err: str


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    """JSON lines; returns the path as a flag takes it."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def edited(base: str, change: Callable[[dict[str, Any]], None], into: Path) -> str:
    """A copy of a checkpoint whose tensors were changed in place."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, into)
    file = into / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    return str(into)


@pytest.fixture(autouse=True)
def _quiet_transformers():
    """What `unveil.cli.main` asks for before transformers is imported; here it was imported before."""
    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(verbosity)
    logging.enable_progress_bar()


@pytest.fixture
def base(tiny_llada, toy_tokenizer, tmp_path) -> str:
    """A random model and its tokenizer, saved."""
    folder = tmp_path / "base"
    tiny_llada().save_pretrained(folder)
    toy_tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def thumbs(tmp_path) -> str:
    return write_rows(tmp_path / "thumbs.jsonl", THUMBS)


@pytest.fixture
def pairs(tmp_path) -> str:
    return write_rows(tmp_path / "pairs.jsonl", PAIRS)


@pytest.fixture
def unveil(capsys) -> Callable[..., Outcome]:
    """`unveil("train", "--beta", 1)` runs a command in this process."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def train(unveil, base, thumbs, tmp_path) -> Callable[..., Outcome]:
    """`train("--beta", 1)`: `unveil train` on the thumbs into `out`, three steps of four; given flags win."""

    def run(*words: object) -> Outcome:
        return unveil(
            "train", "--model_name_or_path", base, "--dataset_name", thumbs, "--output_dir", tmp_path / "out",
            "--per_device_train_batch_size", 4, "--learning_rate", 1e-3, "--logging_steps", 1, "--use_cpu", "--seed", 1,
            *words,
        )  # fmt: skip

    return run
