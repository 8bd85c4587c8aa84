"""Which rows each process takes: shares of one order of the rows, none twice and none left out.

With W processes and P rows per device, every W P rows in that order are one device step. Process r takes the r-th P of
them; of the last, shorter ones it may take fewer or none. So the rows of an optimizer step, and their order, are those
of one process with W P rows per device.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from accelerate.data_loader import prepare_data_loader
from torch.utils.data import BatchSampler, DataLoader, Sampler

from unveil.planning.schedule import device_steps
from unveil.training.draw_config import DrawConfig


class RowList(list):
    """A collated batch: dataset rows as they are, opaque to device placement (nothing is padded)."""


def collate(rows: list[dict[str, Any]]) -> RowList:
    """Keep the rows as a list."""
    return RowList(rows)


def device_steps_of(rows: int, args: DrawConfig, lone_row_joins: bool = False) -> int:
    """Count the device steps of an epoch of a run."""
    size, accumulation = args.per_device_train_batch_size * args.world_size, args.gradient_accumulation_steps
    return device_steps(rows, size, accumulation, args.dataloader_drop_last, lone_row_joins)


def optimizer_steps(rows: int, args: DrawConfig, lone_row_joins: bool = False) -> int:
    """Count the optimizer steps of an epoch of a run, at least 1."""
    return max(1, math.ceil(device_steps_of(rows, args, lone_row_joins) / args.gradient_accumulation_steps))


class SharedBatches(BatchSampler):
    """Yields this process's share of every device step of an epoch."""

    def __init__(self, order: Sampler, rows: int, args: DrawConfig, lone_row_joins: bool = False) -> None:
        super().__init__(order, args.per_device_train_batch_size, args.dataloader_drop_last)
        self.args = args
        self.steps = device_steps_of(rows, args, lone_row_joins)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        mine, world = self.args.process_index, self.args.world_size
        size = self.batch_size * world
        order = list(self.sampler)
        used = len(order) - (len(order) % size if self.drop_last else 0)
        for step in range(self.steps):
            end = (step + 1) * size if step < self.steps - 1 else used
            batch = order[step * size : end]
            share = slice(mine * self.batch_size, None if mine == world - 1 else (mine + 1) * self.batch_size)
            yield batch[share]


def loader_of(dataset: Any, order: Sampler, args: DrawConfig, lone_row_joins: bool) -> DataLoader:
    """Load the shares of this process; on a resume the trainer skips steps of it as of any other loader.

    Accelerate would share out the batches once more, so it is told of one process.
    """
    workers: dict[str, Any] = {}
    if args.dataloader_num_workers:
        workers = {
            "persistent_workers": args.dataloader_persistent_workers,
            "prefetch_factor": args.dataloader_prefetch_factor,
            "multiprocessing_context": args.dataloader_multiprocessing_context,
            "in_order": args.dataloader_in_order,
        }
    collator: Callable = collate
    loader = DataLoader(
        dataset,
        batch_sampler=SharedBatches(order, len(dataset), args, lone_row_joins),
        collate_fn=collator,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        **workers,
    )
    return prepare_data_loader(
        loader, num_processes=1, process_index=0, use_seedable_sampler=True, data_seed=args.data_seed
    )
