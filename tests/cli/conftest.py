"""A tiny checkpoint on disk, files of thumbs, pairs and prompts, and commands run inside the test process."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from command_files import PAIRS, THUMBS, write_rows
from transformers.utils import logging

from unveil.cli.main import main


class Outcome(NamedTuple):
    """What a command returned and printed."""

    code: int
    out: str
    err: str


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
