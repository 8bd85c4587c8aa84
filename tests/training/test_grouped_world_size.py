"""Two processes compute on pairs and lists what one does; no rank waits for another."""

from pathlib import Path

import pytest
import torch
from grouped_ddp_worker import CASES, main
from one_pass import relative_gap
from ranks import run_ranks

WORKER = Path(__file__).with_name("grouped_ddp_worker.py")


@pytest.mark.slow
def test_two_processes_compute_on_prompts_what_one_does(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    run_ranks(WORKER, 2, tmp_path / "two", 4)
    shared, alone = torch.load(tmp_path / "two" / "found.pt"), main(str(tmp_path / "one"), 8)
    for case in CASES:
        name = case["objective"]
        assert relative_gap(shared[name]["grads"], alone[name]["grads"]) < 1e-10, name
        assert shared[name]["state"] == pytest.approx(alone[name]["state"], rel=1e-12)
        for one, two in zip(alone[name]["logs"], shared[name]["logs"], strict=True):
            assert two == pytest.approx(one, rel=1e-6), name
