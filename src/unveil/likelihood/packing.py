"""Micro-batches: rows packed one after the other up to a token budget, without padding.

Rows are sorted by length, so the rows of one response (and of others as long) stand side by side and attention runs
over them as one dense batch; a row longer than the budget is a micro-batch of its own. The order depends on the rows
alone, so policy and reference, given the same rows, run the same kernels on the same shapes.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch

from unveil.likelihood.rows import Row


@dataclass(frozen=True)
class PackedRows:
    """R rows in one stream of T tokens with N hidden places.

    `input_ids_1T`, `index_N` (places in the stream) and `targets_N` are int64; `hidden_counts[r]` places belong to
    row r; `order[r]` is the number of that row in the list that was packed.
    """

    input_ids_1T: torch.Tensor
    segment_lengths: list[int]
    index_N: torch.Tensor
    targets_N: torch.Tensor
    hidden_counts: list[int]
    order: list[int]

    @property
    def num_tokens(self) -> int:
        """T, what the model reads."""
        return sum(self.segment_lengths)

    def in_stream(self, per_row: Sequence[np.ndarray]) -> torch.Tensor:
        """Numbers of hidden tokens (`per_row[i]` belongs to row i of the list that was packed) as the stream has
        them, `[N]`, on its device."""
        chosen = [per_row[row] for row in self.order]
        if [len(numbers) for numbers in chosen] != self.hidden_counts:
            raise ValueError("a row has another number of hidden tokens than numbers given for it")
        return torch.from_numpy(np.concatenate(chosen)).to(self.index_N.device)

    def moved(self, by: int) -> "PackedRows":
        """The same rows, where `by` others stand before them in the list that was packed."""
        return replace(self, order=[by + row for row in self.order])

    def row_sums(self, values_N: torch.Tensor) -> torch.Tensor:
        """Sums `[R]` of the values of each row's hidden tokens, in the order of the stream (see `order`)."""
        return torch.stack([part.sum() for part in values_N.split(self.hidden_counts)])


def split_by_tokens(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Cut items into groups of at most `tokens_per_batch` tokens, longest first; ties keep their order.

    Best-fit decreasing: the items of one length go, as many as fit, where the least room is left that takes one, and
    the rest open new groups. No two groups would fit into one.
    """
    groups: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (tokens left, number of the group), sorted
    for length, same in groupby(sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)), key=lengths.__getitem__):
        items = list(same)
        while items:
            at = bisect_left(rooms, (length, 0))
            if at < len(rooms):
                room, group = rooms.pop(at)
            else:
                room, group = max(tokens_per_batch, length), len(groups)
                groups.append([])
            fitting = room // length
            groups[group] += items[:fitting]
            insort(rooms, (room - length * len(items[:fitting]), group))
            items = items[fitting:]
    return groups


def longest_row(rows: Sequence[Row]) -> int:
    """Tokens of the longest row (0 without rows): the smallest budget under which no row is a batch by itself."""
    return max((row.length for row in rows), default=0)


def pack(rows: Sequence[Row], order: Sequence[int], device: torch.device | str = "cpu") -> PackedRows:
    """Lay the rows `order` one after the other."""
    chosen = [rows[i] for i in order]
    lengths = [row.length for row in chosen]
    offsets = np.cumsum([0, *lengths[:-1]])
    index = np.concatenate([row.places + offset for row, offset in zip(chosen, offsets)])
    return PackedRows(
        torch.from_numpy(np.concatenate([row.ids for row in chosen])).unsqueeze(0).to(device),
        lengths,
        torch.from_numpy(index).to(device),
        torch.from_numpy(np.concatenate([row.targets for row in chosen])).to(device),
        [len(row.places) for row in chosen],
        list(order),
    )


def micro_batches(rows: Sequence[Row], tokens_per_batch: int, device: torch.device | str = "cpu") -> list[PackedRows]:
    """Pack all rows into micro-batches of at most `tokens_per_batch` tokens (never less than one row)."""
    groups = split_by_tokens([row.length for row in rows], tokens_per_batch)
    return [pack(rows, group, device) for group in groups]
