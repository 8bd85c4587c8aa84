"""Micro-batches: rows packed one after the other up to a token budget, without padding.

Rows are sorted by length, so the rows of one response (and of others as long) stand side by side and attention runs
over them as one dense batch; a row longer than the budget is a micro-batch of its own. The order depends on the rows
alone, so policy and reference, given the same rows, run the same kernels on the same shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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


def split_by_tokens(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Cut items, longest first, into groups of at most `tokens_per_batch` tokens; ties keep their order."""
    groups: list[list[int]] = []
    used = 0
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not groups or used + lengths[item] > tokens_per_batch:
            groups.append([])
            used = 0
        groups[-1].append(item)
        used += lengths[item]
    return groups


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
