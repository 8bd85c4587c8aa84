"""Nothing computed is lost or done twice; intervals over seeds and items."""

import json

import numpy as np
import pytest

from benchmarks.intervals import crossed, ratio
from benchmarks.runs import FILE, run_all
from unveil.errors import UserError


def jobs(*names, steps=1):
    return [{"seed": name, "settings": {"steps": steps}} for name in names]


class Work:
    """Counts what is asked of it; fails where it is told to."""

    def __init__(self, failing=None):
        self.done, self.failing = [], failing

    def __call__(self, job):
        if job["seed"] == self.failing:
            raise KeyboardInterrupt
        self.done.append(job["seed"])
        return {"value": 10 * job["seed"]}


def test_finished_runs_are_not_repeated(tmp_path):
    run_all(jobs(1, 2), Work(), tmp_path, 1)
    work = Work()
    assert run_all(jobs(3, 2, 1), work, tmp_path, 1) == [{"value": 30}, {"value": 20}, {"value": 10}]
    assert work.done == [3]


def test_an_interrupted_command_keeps_what_it_computed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_all(jobs(1, 2, 3), Work(failing=2), tmp_path, 1)
    work = Work()
    run_all(jobs(1, 2, 3), work, tmp_path, 1)
    assert work.done == [2, 3]


def test_runs_with_other_settings_are_not_used(tmp_path):
    run_all(jobs(1, steps=1), Work(), tmp_path, 1)
    work = Work()
    run_all(jobs(1, steps=2), work, tmp_path, 1)
    assert work.done == [1]


def test_a_line_that_a_crash_cut_off_is_done_again(tmp_path):
    run_all(jobs(1, 2), Work(), tmp_path, 1)
    path = tmp_path / FILE
    path.write_text(path.read_text()[:-8])
    work = Work()
    run_all(jobs(1, 2, 3), work, tmp_path, 1)
    assert work.done == [2, 3]
    records = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}}")]
    assert [record["job"]["seed"] for record in records] == [1, 2, 3]


def test_no_worker_is_refused(tmp_path):
    with pytest.raises(UserError, match="--jobs 0"):
        run_all(jobs(1), Work(), tmp_path, 0)


def test_the_interval_of_one_seed_is_that_of_its_items():
    values = np.random.default_rng(1).random((1, 400))
    found = crossed(values)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)


def test_seeds_that_disagree_widen_the_interval():
    values = np.random.default_rng(1).random((3, 400))
    apart = values + np.array([[-0.3], [0.0], [0.3]])
    agreeing, disagreeing = crossed(values), crossed(apart)
    assert disagreeing.high - disagreeing.low > 5 * (agreeing.high - agreeing.low)


def test_a_ratio_of_paired_items_is_sharper_than_its_parts():
    scale = np.random.default_rng(1).lognormal(size=200)
    found = ratio(2 * scale, scale)
    assert (found.value, found.low, found.high) == (pytest.approx(2), pytest.approx(2), pytest.approx(2))
