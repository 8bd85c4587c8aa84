"""Several processes compute what one does at every step, the last of an epoch included; no row is taken twice."""

from pathlib import Path

import pytest
import torch
from ranks import run_ranks
from uneven_worker import CASES, main

WORKER = Path(__file__).with_name("uneven_worker.py")

pytestmark = pytest.mark.filterwarnings("ignore::unveil.errors.UserInputWarning")


def compare(folder: Path, processes: int, size: int, rows: int, accumulation: int, names: list[str]) -> None:
    (folder / "one").mkdir()
    (folder / "many").mkdir()
    run_ranks(WORKER, processes, folder / "many", size, rows, accumulation, *names)
    many = torch.load(folder / "many" / "found.pt")
    alone = main(str(folder / "one"), size, rows, accumulation, names)
    for name in names:
        one, other = alone[name], many[name]
        assert one["steps"] == other["steps"], name
        taken = [row for step in other["steps"] for batch in step for row in batch]
        assert len(set(taken)) == len(taken) == rows, name
        assert (one["weights"] - other["weights"]).abs().max() < 1e-9, name
        for mine, theirs in zip(one["logs"], other["logs"], strict=True):
            assert theirs == pytest.approx(mine, rel=1e-6), name


def test_two_processes_take_the_steps_of_one_when_the_last_batch_is_not_full(tmp_path):
    """Nine rows in steps of four, and evaluation of five: the second process has no row in the last step of `dpo`."""
    compare(tmp_path, 2, 4, 9, 1, ["kto", "dpo", "sft"])


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "size", "rows", "accumulation"), [(2, 4, 11, 2), (3, 6, 7, 1), (3, 3, 13, 4)])
def test_several_processes_take_the_steps_of_one_for_every_objective_and_cut(
    tmp_path, processes, size, rows, accumulation
):
    compare(tmp_path, processes, size, rows, accumulation, list(CASES))
