"""A tiny checkpoint on disk, a folder of tasks, and commands run inside the test process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from evaluation_files import write_tasks
from transformers.utils import logging

from unveil.cli.main import main
from unveil.evaluation import ModelSettings, settings_of
from unveil.models import Denoiser


class Outcome(NamedTuple):
    """What a command returned and printed."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path_factory):
    """No bars, no network, and no data set kept from another test."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
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
def denoiser(tiny_llada) -> Denoiser:
    return Denoiser(tiny_llada())


@pytest.fixture
def settings() -> Callable[..., ModelSettings]:
    """`settings(num_draws=8)`: settings for a model that is loaded already."""
    return lambda **options: settings_of({"pretrained": "loaded", **options})


@pytest.fixture
def task_folder(tmp_path) -> str:
    return write_tasks(tmp_path / "tasks")


@pytest.fixture
def unveil(capsys) -> Callable[..., Outcome]:
    """`unveil("evaluate", "--tasks", "choose")` runs a command in this process."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def evaluate(unveil, base, task_folder, tmp_path) -> Callable[..., Outcome]:
    """`evaluate("choose", ...)`: `unveil evaluate` of the tiny model on local tasks, 8 draws, into `out`."""

    def run(tasks: str, *words: object, out: str = "out") -> Outcome:
        return unveil(
            "evaluate", "--model_name_or_path", base, "--tasks", tasks, "--include_path", task_folder, "--num_draws", 8,
            "--output_dir", tmp_path / out, *words,
        )  # fmt: skip

    return run


@pytest.fixture
def results(tmp_path) -> Callable[..., dict[str, Any]]:
    """The results.json of an evaluation."""
    return lambda out="out": json.loads((Path(tmp_path) / out / "results.json").read_text())
