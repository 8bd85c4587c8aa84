"""A folder of tasks, settings, and a short evaluation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluation_files import write_tasks

from unveil.evaluation import ModelSettings, settings_of
from unveil.models import Denoiser


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path_factory, quiet_transformers):
    """No bars, no network, and no data set kept from another test."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


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
def evaluate(unveil, base, task_folder, tmp_path) -> Callable[..., Any]:
    """`evaluate("choose", ...)`: `unveil evaluate` of the tiny model on local tasks, 8 draws, into `out`."""

    def run(tasks: str, *words: object, out: str = "out") -> Any:
        return unveil(
            "evaluate", "--model_name_or_path", base, "--tasks", tasks, "--include_path", task_folder, "--num_draws", 8,
            "--output_dir", tmp_path / out, *words,
        )  # fmt: skip

    return run


@pytest.fixture
def results(tmp_path) -> Callable[..., dict[str, Any]]:
    """The results.json of an evaluation."""
    return lambda out="out": json.loads((Path(tmp_path) / out / "results.json").read_text())
