"""`benchmarks.estimator`: runs, goes on where it was stopped, and its last line is what the table says."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers.utils import logging

from unveil.diagnostics.estimator_variance import Draws, Measured, Strata
from unveil.diagnostics.gradient_moments import GradientMoments
from unveil.diagnostics.variance_split import Split

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are no part of the installed package
from benchmarks import estimator
from benchmarks.estimator_ledger import as_json, from_json


@pytest.fixture(autouse=True)
def _quiet_transformers():
    yield
    logging.enable_progress_bar()


@pytest.fixture
def model(tiny_llada, toy_tokenizer, tmp_path) -> str:
    tiny_llada().save_pretrained(tmp_path / "model")
    toy_tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_a_stopped_run_goes_on_and_agrees_with_its_table(model, tmp_path, capsys, monkeypatch):
    flags = ["--quick", "--model", model, "--output_dir", str(tmp_path / "out"), "--designs", "iid", "--exponents", "2"]
    assert estimator.main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    row = next(line for line in lines if line.startswith("| quadratic_tiling | ht | yes"))
    assert row.split("|")[5].split()[0] == f"{found['margin_mse_default_over_iid']:.2f}"
    assert row.split("|")[6].split()[0] == f"{found['gradient_mse_default_over_iid']:.2f}"
    assert found["margin_target_met"] == (found["margin_mse_default_over_iid"] <= 0.35)
    report = json.loads((tmp_path / "out" / "estimator_4.json").read_text())
    assert [r["name"] for r in report["estimators"]][::3] == ["iid", "iid 2x2", "quadratic_tiling"]

    kept = tmp_path / "out" / "measured.jsonl"
    kept.write_text("\n".join(kept.read_text().splitlines()[:-1]) + "\n")
    measured = []
    measure = estimator.measure
    monkeypatch.setattr(estimator, "measure", lambda *args: measured.append(args[3]) or measure(*args))
    assert estimator.main(flags) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert measured == [Draws("quadratic_tiling", 4)]
    for name in ("margin_mse_default_over_iid", "gradient_mse_default_over_iid"):
        assert again[name] == pytest.approx(found[name], rel=1e-4)

    assert estimator.main([*flags, "--seed", "1"]) == 2
    assert "holds measurements of other settings" in capsys.readouterr().err


def test_a_line_of_the_ledger_holds_everything():
    rng = np.random.default_rng(0)
    found = Measured(
        Draws("quadratic_tiling", 2, strata_exponent=1.5), ("ht", "hajek"), 2.0, rng.normal(size=(2, 3, 4)),
        rng.normal(size=(2, 3, 4)), (Split(1.0, 2.0), Split(0.5, 0.25)), Strata(*rng.random((4, 2))),
        GradientMoments(rng.random((2, 3)), rng.normal(size=(2, 3, 2, 5))),
    )  # fmt: skip
    back = from_json(json.loads(json.dumps(as_json(found))))
    assert (back.draws, back.combiners, back.forwards, back.split) == (
        found.draws, found.combiners, found.forwards, found.split
    )  # fmt: skip
    for one, other in ((back.strata, found.strata), (back.gradient, found.gradient)):
        assert one is not None
        assert other is not None
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_allclose(back.margin_CNR, found.margin_CNR, rtol=1e-6)
