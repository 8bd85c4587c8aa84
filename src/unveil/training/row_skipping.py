"""Rows of small weight may skip the second pass: an unbiased resampling, off by default (`--row_budget`).

A row is kept with probability `p = min(1, c |w| s / sqrt(cost))` and then counts `w / p`, so the expected gradient is
exact. s stands for the size of its gradient (the square root of the number of hidden tokens), the cost is its tokens;
the square root in p minimises variance times cost (Neyman). c makes the expected cost the budget's share.
"""

import numpy as np
import torch

from unveil.draws.splitmix import draw_seed, example_seed, mix64
from unveil.training.micro_batch import MicroBatch

_SKIP_TAG = 5


def keep_probabilities(importance: np.ndarray, cost: np.ndarray, budget: float) -> np.ndarray:
    """p = min(1, c importance) with `sum p cost = budget * sum cost`; importance 0 gives p = 0.

    If rows of importance above 0 cost less than the budget, all of them are kept.
    """
    live = importance > 0
    if cost[live].sum() <= budget * cost.sum():
        return live.astype(np.float64)
    low, high = 0.0, 1.0 / importance[live].min()
    for _ in range(100):  # bisection: the expected cost rises with c
        middle = (low + high) / 2
        spent = (np.minimum(1.0, middle * importance) * cost).sum()
        low, high = (middle, high) if spent < budget * cost.sum() else (low, middle)
    return np.minimum(1.0, high * importance)


def resampled(batch: MicroBatch, budget: float, seed: int, step: int) -> tuple[torch.Tensor, dict[str, float]]:
    """New row weights, zero for skipped rows, and what to log: the share of tokens kept."""
    weights = batch.row_weights.numpy()
    cost = np.array([row.length for row in batch.draws], dtype=np.float64)
    spread = np.sqrt([len(row.places) for row in batch.draws])
    keep = keep_probabilities(np.abs(weights) * spread / np.sqrt(cost), cost, budget)
    chance = np.array([_uniform(seed, step, batch, row) for row in range(batch.num_rows)])
    kept = chance < keep
    new = np.where(kept, weights / np.where(keep > 0, keep, 1.0), 0.0)
    return torch.from_numpy(new), {"rows/tokens_kept": float(cost[kept].sum() / cost.sum())}


def _uniform(seed: int, step: int, batch: MicroBatch, row: int) -> float:
    """A number in [0, 1) that depends on run, step, answer and draw alone."""
    drawn = batch.draws[row]
    base = example_seed(seed, batch.responses[drawn.response].example_id, step)
    return mix64(draw_seed(base, drawn.draw + 1, _SKIP_TAG)) / 2**64
