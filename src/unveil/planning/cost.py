"""What a run costs: floating-point operations of its passes, hours, and the memory of each way to train.

Per optimizer step, in units of one forward pass over its rows: pass 1 costs 1, the reference 1, pass 2 costs 3 (2 under
LoRA, whose frozen matrices need no gradient), less 1 where pass 1 kept the graph, plus 1 where activations are
recomputed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from unveil.planning.flops import NOTHING, Flops, Work, backward, forward, padded, recomputed
from unveil.planning.hardware import Devices
from unveil.planning.memory import Memory, Method, peak_memory, static_memory
from unveil.planning.schedule import Schedule
from unveil.planning.shape import Adapters, Shape

SPREAD = 0.25
"""Share by which the utilisation may be missed: hours are told for (1 -+ SPREAD) times the given one."""


@dataclass(frozen=True)
class Passes:
    """What one epoch reads, and how often.

    `first`: rows of pass 1 and of the reference; `second`: rows of pass 2; `replay`: rows of the replay data (pass 2
    alone), of all epochs.
    """

    first: Work
    second: Work
    epochs: float = 1.0
    first_pass: bool = True
    reference_epochs: float = 1.0
    """0 without a reference; 1 where its values are computed once for all epochs."""
    row_budget: float = 1.0
    checkpointing: bool = False
    replay: Work = NOTHING


def run_flops(shape: Shape, passes: Passes, schedule: Schedule, adapters: Adapters | None) -> dict[str, Flops]:
    """Operations of the whole run by pass."""
    kept, again = (_part(passes.second, share) for share in (schedule.kept, schedule.checkpointed))
    if passes.checkpointing:
        again = passes.second
    second = forward(shape, passes.second.less(kept), adapters)
    second = second.plus(backward(shape, passes.second, adapters)).plus(recomputed(shape, again, adapters))
    replay = forward(shape, passes.replay, adapters).plus(backward(shape, passes.replay, adapters))
    found = {
        "pass 1": forward(shape, passes.first, adapters).times(passes.epochs * passes.first_pass),
        "reference": forward(shape, passes.first).times(passes.reference_epochs),
        "pass 2": second.times(passes.epochs * passes.row_budget),
        "replay": replay,
    }
    return {name: flops for name, flops in found.items() if flops.total}


def hours(flops: float, devices: Devices, utilisation: float, balance: float = 1.0) -> dict[str, float]:
    """Hours at the given share of the peak, and at a quarter less and more of it.

    Devices wait for the busiest of them; traffic between them is part of the utilisation.
    """
    seconds = flops * balance / (devices.count * devices.tflops * 1e12)
    levels = {"low": 1 - SPREAD, "given": 1.0, "high": 1 + SPREAD}
    return {name: seconds / min(utilisation * level, 1.0) / 3600 for name, level in levels.items()}


def published_flops(
    shape: Shape,
    answers: int,
    length: int,
    num_draws: int,
    epochs: float,
    reference_epochs: float,
    adapters: Adapters | None,
) -> float:
    """The published step on the same answers, every draw padded to `length`, with the same adapters."""
    rows = float(num_draws * answers)
    read = Work(rows * length, rows * length**2, rows * length)
    return padded(shape, rows, length, adapters).total * epochs + forward(shape, read).total * reference_epochs


@dataclass(frozen=True)
class Fit:
    """A way to train on one kind of device: peak memory with the run's `tokens_per_batch`, and what would fit."""

    method: str
    sharding: str
    devices: int
    memory: Memory
    fits: bool | None
    largest_tokens_per_batch: int | None


def fit(
    shape: Shape,
    method: Method,
    sharding: str,
    count: int,
    usable: float | None,
    tokens_per_batch: int,
    cut: Callable[[int, int], Schedule],
    largest_row_batch: int,
    hidden_share: float,
    checkpointing: bool = False,
) -> Fit:
    """Memory of one way to train.

    Args:
        shape: the model.
        method: full, LoRA or QLoRA.
        sharding: "one", "ddp" or "fsdp2".
        count: devices.
        usable: bytes of one device; None does not judge.
        tokens_per_batch: the run's budget of tokens.
        cut: (tokens_per_batch, devices) -> the schedule.
        largest_row_batch: a budget above which nothing changes.
        hidden_share: hidden places per token.
        checkpointing: every graph keeps the inputs of blocks alone.
    """
    static = static_memory(shape, method, sharding, count)
    working = method
    if sharding == "fsdp2":  # gathered weights and the residual stream have the dtype of products
        working = replace(method, precision=method.precision._replace(weights=method.precision.products))

    def peak(budget: int) -> Memory:
        schedule = cut(budget, count)
        live, alone = schedule.live_tokens, schedule.longest_alone
        if checkpointing:
            live, alone = 0, max(live, alone)
        return peak_memory(static, shape, working, live, hidden_share, alone)

    memory = peak(tokens_per_batch)
    if usable is None:
        return Fit(method.name, sharding, count, memory, None, None)
    largest = None
    if static.total < usable:
        for budget in _budgets(largest_row_batch):
            if peak(budget).total > usable:
                break
            largest = budget
    return Fit(method.name, sharding, count, memory, memory.total <= usable, largest)


def _budgets(most: int) -> list[int]:
    """Powers of two and their halves more, up to the first one that holds `most` tokens."""
    found = [size for power in range(8, 21) for size in (1 << power, 3 << (power - 1))]
    return [size for size, before in zip(found, [0, *found]) if before < most]


def _part(work: Work, share: Work) -> Work:
    return Work(*(all_ * part for all_, part in zip(work, share)))
