"""Names of kept reference values: which answer, with whose mask sizes, in which epoch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from datasets import Dataset

from unveil.likelihood import Response
from unveil.training.draw_config import DrawConfig
from unveil.training.micro_batch import MicroBatch, responses_of
from unveil.training.shared_batches import optimizer_steps

Datasets = Dataset | Mapping[str, Dataset]


class Key(NamedTuple):
    """The name of the values of one answer. Together with a run's draw settings it fixes the draws."""

    epoch: int
    """-1 for held-out answers."""
    example_id: int
    size_id: int
    """The prompt whose candidates share their mask sizes, or `ALONE`: an answer may stand in several pairs."""


ALONE = -1


class Answer(NamedTuple):
    """An answer as a dataset has it."""

    response: Response
    size_id: int

    def key(self, epoch: int) -> Key:
        """The name of its values in an epoch."""
        return Key(epoch, self.response.example_id, self.size_id)


def answers_of(dataset: Datasets, share_sizes: bool, limit: int | None = None) -> Iterator[Answer]:
    """The answers of tokenised rows or groups, each as often as it occurs; of the first `limit` rows of each set."""
    for part in dataset.values() if isinstance(dataset, Mapping) else [dataset]:
        for number in range(len(part) if limit is None else min(limit, len(part))):
            row: Any = part[number]
            members = responses_of(row)
            size_id = row["example_id"] if share_sizes and len(members) > 1 else ALONE
            yield from (Answer(response, size_id) for response in members)


def keys_of_batch(batch: MicroBatch, share_sizes: bool, epoch: int) -> list[Key]:
    """The names of a device batch's answers, in its order."""
    shared = {group for group in batch.groups if batch.groups.count(group) > 1} if share_sizes else set()
    return [
        Key(epoch, response.example_id, batch.rows[group]["example_id"] if group in shared else ALONE)
        for response, group in zip(batch.responses, batch.groups)
    ]


def epochs_of(args: DrawConfig, rows: int, lone_row_joins: bool = False) -> Sequence[int]:
    """The epochs whose draws a run on so many rows will ask for; with fixed draws only those of the first."""
    if args.draws == "fixed":
        return range(1)
    if args.max_steps <= 0:
        return range(math.ceil(args.num_train_epochs))
    return range(math.ceil(args.max_steps / optimizer_steps(rows, args, lone_row_joins)))
