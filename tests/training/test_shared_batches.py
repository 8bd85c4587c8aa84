"""Shares of an epoch: together the rows of one process, in its order, however many processes there are."""

from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.data_loader import skip_first_batches
from datasets import Dataset
from torch.utils.data import SequentialSampler

from unveil.training.shared_batches import SharedBatches, loader_of, optimizer_steps


def args_of(size: int, rank: int = 0, world: int = 1, accumulation: int = 1, **more: Any) -> Any:
    settings = {
        "per_device_train_batch_size": size, "process_index": rank, "world_size": world, "data_seed": None,
        "gradient_accumulation_steps": accumulation, "dataloader_drop_last": False, "dataloader_num_workers": 0,
        "dataloader_pin_memory": False, "dataloader_persistent_workers": False, "dataloader_prefetch_factor": None,
        "dataloader_multiprocessing_context": None, "dataloader_in_order": True,
    }  # fmt: skip
    return SimpleNamespace(**settings | more)


def steps_of(rows: int, args: Any, joins: bool) -> list[list[int]]:
    return list(SharedBatches(SequentialSampler(range(rows)), rows, args, joins))


@pytest.mark.parametrize("joins", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("world", "size", "accumulation"), [(2, 2, 1), (3, 1, 1), (3, 2, 2), (4, 5, 3)])
def test_the_shares_of_every_step_are_the_step_of_one_process(world, size, accumulation, drop_last, joins):
    for rows in range(1, 40):
        more = {"accumulation": accumulation, "dataloader_drop_last": drop_last}
        alone = steps_of(rows, args_of(size * world, **more), joins)
        shares = [steps_of(rows, args_of(size, rank, world, **more), joins) for rank in range(world)]
        assert [list(chain(*step)) for step in zip(*shares, strict=True)] == alone
        taken = list(chain(*alone))
        assert taken == list(range(rows if not drop_last else rows - rows % (size * world)))
        updates = [list(chain(*alone[i : i + accumulation])) for i in range(0, len(alone), accumulation)]
        if joins and rows > 1:
            assert all(len(update) > 1 for update in updates)
        if alone:
            assert len(updates) == optimizer_steps(rows, args_of(size * world, **more), joins)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_process_without_rows_in_the_last_step_gets_an_empty_batch_and_skips_steps_as_any_other(workers):
    data = Dataset.from_list([{"example_id": i} for i in range(5)])
    for rank, expected in enumerate([[[0], [3]], [[1], [4]], [[2], []]]):
        args = args_of(1, rank, 3, dataloader_num_workers=workers)
        loader: Any = loader_of(data, SequentialSampler(data), args, False)
        found = [[row["example_id"] for row in batch] for batch in loader]
        assert found == expected
        rest = [[row["example_id"] for row in batch] for batch in skip_first_batches(loader, 1)]
        assert rest == expected[1:]
