"""Rows of small weight may skip the second pass: an unbiased resampling, off by default (`--row_budget`).

A row is kept with probability `p = min(1, c |w| s / sqrt(cost))` and then counts `w / p`, so the expected gradient is
exact. s stands for the size of its gradient (the square root of the number of hidden tokens), the cost is its tokens;
the square root in p minimises variance times cost (Neyman). c makes the expected cost the budget's share.
"""

from collections.abc import Sequence

import numpy as np
import torch

from unveil.draws.splitmix import draw_seed, example_seed, mix64
from unveil.training.micro_batch import MicroBatch

_SKIP_TAG = 5


Sizes = tuple[np.ndarray, np.ndarray]
"""Importance and cost of rows, `[R]` each."""


def keep_probabilities(importance: np.ndarray, cost: np.ndarray, budget: float, whole: Sizes | None = None):
    """p = min(1, c importance) with `sum p cost = budget * sum cost` over `whole` (default: these rows).

    Importance 0 gives p = 0. If rows of importance above 0 cost less than the budget, all of them are kept.
    """
    all_importance, all_cost = whole or (importance, cost)
    live = all_importance > 0
    if all_cost[live].sum() <= budget * all_cost.sum():
        return (importance > 0).astype(np.float64)
    low, high = 0.0, 1.0 / all_importance[live].min()
    for _ in range(100):  # bisection: the expected cost rises with c
        middle = (low + high) / 2
        spent = (np.minimum(1.0, middle * all_importance) * all_cost).sum()
        low, high = (middle, high) if spent < budget * all_cost.sum() else (low, middle)
    return np.minimum(1.0, high * importance)


def sizes_of(batch: MicroBatch) -> Sizes:
    """`|w| s / sqrt(cost)` and cost of the rows of a device batch."""
    cost = np.array([row.length for row in batch.draws], dtype=np.float64)
    spread = np.sqrt([len(row.places) for row in batch.draws])
    return np.abs(batch.row_weights.numpy()) * spread / np.sqrt(cost), cost


def skip_rows(batches: Sequence[MicroBatch], whole: Sizes, budget: float, seed: int, step: int) -> Sizes:
    """Give the rows of this process new weights, zero for skipped ones; returns which were kept (0 or 1) and the
    cost of each.

    Args:
        batches: the device batches of an optimizer step on this process.
        whole: sizes of the rows of all processes, which share the budget.
        budget: share of all cost.
        seed, step: of the run; with the names of answer and draw they decide.
    """
    found = [(np.empty(0), np.empty(0))]
    for batch in batches:
        importance, cost = sizes_of(batch)
        keep = keep_probabilities(importance, cost, budget, whole)
        chance = np.array([_uniform(seed, step, batch, row) for row in range(batch.num_rows)])
        kept = chance < keep
        new = np.where(kept, batch.row_weights.numpy() / np.where(keep > 0, keep, 1.0), 0.0)
        batch.row_weights = torch.from_numpy(new)
        found.append((kept.astype(np.float64), cost))
    return joined(found)


def joined(sizes: Sequence[Sizes]) -> Sizes:
    """The rows of several device batches as one list."""
    one, other = zip(*sizes)
    return np.concatenate(one), np.concatenate(other)


def _uniform(seed: int, step: int, batch: MicroBatch, row: int) -> float:
    """A number in [0, 1) that depends on run, step, answer and draw alone."""
    drawn = batch.draws[row]
    base = example_seed(seed, batch.responses[drawn.response].example_id, step)
    return mix64(draw_seed(base, drawn.draw + 1, _SKIP_TAG)) / 2**64
