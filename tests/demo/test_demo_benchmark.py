"""`benchmarks.demo`: overrides, pooling over seeds, and that the base is measured once."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unveil.demo.recipe import Recipe
from unveil.errors import UserError

# By its path: benchmarks are no part of the installed package.
_SPEC = importlib.util.spec_from_file_location("demo_benchmark", Path(__file__).parents[2] / "benchmarks" / "demo.py")
assert _SPEC is not None
assert _SPEC.loader is not None
benchmark = importlib.util.module_from_spec(_SPEC)
sys.modules["demo_benchmark"] = benchmark
_SPEC.loader.exec_module(benchmark)


def test_settings_are_read_by_their_types():
    recipe = benchmark.changed(Recipe(), ["steps=7", "learning_rate=1e-3", "baseline=kl"])
    assert recipe == replace(Recipe(), steps=7, learning_rate=1e-3, baseline="kl")


@pytest.mark.parametrize("setting", ["speed=3", "steps=many", "steps"])
def test_a_setting_that_is_none_is_refused(setting):
    with pytest.raises(UserError, match=f"--set {setting}"):
        benchmark.changed(Recipe(), [setting])


def test_the_table_and_the_json_line_agree(fewer_rows, random_base, capsys, tmp_path, monkeypatch):
    measured = []
    measure = benchmark.measure_base
    monkeypatch.setattr(benchmark, "measure_base", lambda *args: measured.append(args) or measure(*args))
    settings = "steps=1 batch_size=12 replay_batch_size=2 num_draws=2 num_texts=24 eval_draws=1 sampling_steps=2"
    flags = [
        "--base", str(random_base.folder), "--seeds", "0", "1", "--shuffled", "--null", "--num_prompts", "8", "--quiet",
        "--threads", str(torch.get_num_threads()), "--cache", str(tmp_path), "--set", *settings.split(),
    ]  # fmt: skip
    assert benchmark.main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    report = json.loads(lines[-1])
    assert [(line["thumbs"], line["seed"]) for line in report["lines"]] == [
        ("true", 0), ("true", 1), ("shuffled", 0), ("shuffled", 1),
    ]  # fmt: skip
    pooled = report["pooled"]["true"]
    assert pooled["adjusted_win_rate"] == pytest.approx(np.mean([r["adjusted_win_rate"] for r in report["lines"][:2]]))
    difference = pooled["adjusted_win_rate"] - report["pooled"]["shuffled"]["adjusted_win_rate"]
    assert report["label_effect"]["difference"] == pytest.approx(difference)
    assert sum(line.startswith("| true |") for line in lines) == 2
    assert {line.count("|") for line in lines if line.startswith("|")} == {benchmark.HEAD.count("|")}
    assert len(measured) == 1
    assert benchmark.main([*flags[:5], *flags[7:]]) == 0
    assert len(measured) == 1
