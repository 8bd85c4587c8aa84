"""How a run cuts the data: optimizer steps, micro-batches, and which graphs pass 1 keeps.

The steps are played through on row lengths alone, by the packing that training uses; only the order of the data is
another random one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unveil.likelihood import split_by_tokens
from unveil.planning.answers import Answers, Rows, work_of
from unveil.planning.flops import Work

MOST_STEPS = 50
"""Steps that are played through."""


@dataclass(frozen=True)
class Batching:
    """The flags that decide it; `kept_tokens` is 0 where no graph is kept."""

    per_device: int = 8
    accumulation: int = 1
    devices: int = 1
    tokens_per_batch: int = 8192
    kept_tokens: int = 0
    drop_last: bool = False
    lone_row_joins: bool = False
    """A last step of one row joins the one before."""

    @property
    def rows(self) -> int:
        """Dataset rows in one optimizer step."""
        return self.per_device * self.accumulation * self.devices


@dataclass(frozen=True)
class Schedule:
    """What the steps look like."""

    packed_tokens: float
    """Mean tokens of a micro-batch."""
    largest_tokens: int
    """Tokens of the largest micro-batch whose graph is built whole; 0 if there is none."""
    live_tokens: int
    """Most tokens with a graph at a time, graphs kept from pass 1 included."""
    longest_alone: int
    """Tokens of the longest row above `tokens_per_batch`, which runs alone under activation checkpointing; else 0."""
    kept: Work
    """Work whose second forward pass is spared, as shares of all work."""
    checkpointed: Work
    """Work whose forward pass is repeated, as shares of all work."""
    balance: float
    """Tokens of the busiest device over the mean of the devices, averaged over steps."""


def device_steps(
    rows: int, size: int, accumulation: int = 1, drop_last: bool = False, lone_row_joins: bool = False
) -> int:
    """Count the device steps of an epoch, the same on every process.

    Args:
        rows: training rows.
        size: rows of a device step, over all processes.
        accumulation: device steps in an optimizer step.
        drop_last: leave out a last device step that is not full.
        lone_row_joins: a last optimizer step of one row is no step of its own; its row joins the one before.
    """
    steps = rows // size if drop_last else math.ceil(rows / size)
    used = min(rows, steps * size)
    lone = used % (size * accumulation) == 1
    return steps - 1 if lone_row_joins and lone and steps > 1 else steps


def steps_of(rows: int, epochs: float, max_steps: int, batching: Batching) -> tuple[int, float]:
    """Optimizer steps of the run, and the epochs that they make, as transformers.Trainer counts them."""
    device_step = batching.per_device * batching.devices
    taken = device_steps(rows, device_step, batching.accumulation, batching.drop_last, batching.lone_row_joins)
    per_epoch = max(math.ceil(taken / batching.accumulation), 1)
    steps = max_steps if max_steps > 0 else math.ceil(epochs * per_epoch)
    return steps, steps / per_epoch


def play(answers: Answers, rows: Rows, batching: Batching, seed: int = 0, most_steps: int = MOST_STEPS) -> Schedule:
    """Cut some random optimizer batches as training does."""
    starts = np.searchsorted(rows.answers, np.arange(len(answers) + 1)).tolist()
    sizes, alone, balances, live, largest_batch = [], 0, [], 0, 0
    seen = kept = checkpointed = Work(0.0, 0.0, 0.0)
    for members in _steps(answers, batching, seed, most_steps):
        per_device = np.zeros(batching.devices)
        budget, keeps, parts = batching.kept_tokens, [], []
        for number, batch in enumerate(members):
            index = np.concatenate([np.arange(starts[answer], starts[answer + 1]) for answer in batch])
            tokens, hidden = rows.tokens[index], rows.hidden[index]
            per_device[number % batching.devices] += tokens.sum()
            seen = seen.plus(work_of(tokens, hidden))
            fitting = tokens[tokens <= batching.tokens_per_batch]
            largest_batch = max(largest_batch, int(fitting.sum()))
            for part in split_by_tokens(tokens.tolist(), batching.tokens_per_batch):
                size, work = int(tokens[part].sum()), work_of(tokens[part], hidden[part])
                keep = size <= budget
                budget -= size * keep
                whole = size <= batching.tokens_per_batch
                kept = kept.plus(work) if keep else kept
                checkpointed = checkpointed if keep or whole else checkpointed.plus(work)
                alone = alone if whole else max(alone, size)
                sizes.append(size)
                keeps.append(size * keep)
                parts.append(size * (whole or keep))
        waiting = np.cumsum(keeps[::-1])[::-1] - keeps  # graphs that still wait while a part runs
        live = max(live, int(np.max(np.array(parts) + waiting)))
        balances.append(per_device.max() / per_device.mean())
    largest = min(batching.tokens_per_batch, largest_batch)
    return Schedule(
        packed_tokens=float(np.mean(sizes)),
        largest_tokens=largest,
        live_tokens=max(live, largest),
        longest_alone=alone,
        kept=_share(kept, seen),
        checkpointed=_share(checkpointed, seen),
        balance=float(np.mean(balances)),
    )


def largest_device_batch(answers: Answers, rows: Rows, per_device: int) -> int:
    """Tokens of the largest device batch that could be drawn: a budget above it changes nothing."""
    per_group = np.bincount(answers.groups, np.bincount(rows.answers, rows.tokens))
    return int(np.sort(per_group)[-per_device:].sum())


def _steps(answers: Answers, batching: Batching, seed: int, most_steps: int) -> Iterator[list[np.ndarray]]:
    """Device batches (answers by number) of some optimizer steps, device by device within an accumulation step."""
    starts = np.searchsorted(answers.groups, np.arange(answers.rows + 1)).tolist()
    order = np.random.default_rng(seed).permutation(answers.rows)
    taken = order[: most_steps * batching.rows]
    whole = len(taken) - len(taken) % batching.rows if len(taken) >= batching.rows else len(taken)
    for start in range(0, whole, batching.rows):
        step = taken[start : start + batching.rows]
        yield [
            np.concatenate(
                [np.arange(starts[group], starts[group + 1]) for group in step[at : at + batching.per_device]]
            )
            for at in range(0, len(step), batching.per_device)
        ]


def _share(part: Work, whole: Work) -> Work:
    return Work(*(mine / all_ if all_ else 0.0 for mine, all_ in zip(part, whole)))
