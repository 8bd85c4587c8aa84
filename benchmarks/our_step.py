"""Our step through the functions that the trainer uses: plans, rows, packed micro-batches, two passes.

`two_pass` is the schedule of `unveil.training`: pass 1 scores the whole optimizer batch without graph, the objective
gives one weight per response, pass 2 back-propagates micro-batch by micro-batch. With `kept_tokens`, the graphs of
pass 1 are kept for as many micro-batches as have that many tokens, and these need no second forward: 3 instead of 4
forward units for their rows, the gradient is the same.

`one_pass` is the oracle: every graph lives until the loss, with or without activation checkpointing.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.proportional import Batch, checkpointed
from unveil.draws import Plan, plan
from unveil.likelihood import PackedRows, build_rows, combine, micro_batches, row_values, row_values_without_graph
from unveil.models import Denoiser
from unveil.objectives import Feedback, Likelihoods, Objective, kto, total_loss, weights


@dataclass(frozen=True)
class Schedule:
    """Draws per response, their design, tokens of a micro-batch, and tokens whose pass-1 graphs are kept."""

    num_draws: int = 8
    design: str = "iid"
    tokens_per_batch: int = 512
    kept_tokens: int = 0
    strata_exponent: float = 2.0


@dataclass(frozen=True)
class Prepared:
    """The rows of an optimizer batch, packed."""

    batch: Batch
    plans: list[Plan]
    packed: list[PackedRows]
    num_rows: int


def plans_of(batch: Batch, schedule: Schedule, epochs: Sequence[int]) -> list[Plan]:
    """The draws of every response, each in an epoch of its own."""
    return [
        plan(
            0,
            r.example_id,
            epoch,
            r.length,
            schedule.num_draws,
            schedule.design,
            strata_exponent=schedule.strata_exponent,
        )
        for r, epoch in zip(batch.responses, epochs, strict=True)
    ]


def prepare(denoiser: Denoiser, batch: Batch, schedule: Schedule, epoch: int = 0) -> Prepared:
    """Draw, mask and pack."""
    plans = plans_of(batch, schedule, [epoch] * len(batch.responses))
    rows = build_rows(batch.responses, plans, denoiser.mask_token_id)
    return Prepared(batch, plans, micro_batches(rows, schedule.tokens_per_batch, denoiser.device), len(rows))


def values(denoiser: Denoiser, prepared: Prepared) -> Tensor:
    """Surrogates `[responses]`, nats, without gradient: what the reference cache holds."""
    return combine(row_values_without_graph(denoiser, prepared.packed, prepared.num_rows), prepared.plans).values


def objective_weights(
    prepared: Prepared, policy: Tensor, reference: Tensor, objective: Objective | None = None
) -> tuple[float, Tensor]:
    """Loss, and for every row the factor of `S(M)` in the gradient, float64 `[rows]`."""
    labels = torch.tensor(prepared.batch.desirable, dtype=torch.float64)[:, None]
    likelihoods = Likelihoods(policy.double()[:, None], reference.double()[:, None])
    loss, slopes = weights(objective or kto(), likelihoods, Feedback(labels))
    factors = [g * w for g, p in zip(slopes[:, 0].tolist(), prepared.plans) for w in p.weights]
    return float(loss), torch.tensor(factors, dtype=torch.float64)


def objective_loss(prepared: Prepared, policy: Tensor, reference: Tensor, objective: Objective | None = None) -> Tensor:
    """The batch objective of surrogates with a graph."""
    labels = torch.tensor(prepared.batch.desirable, dtype=policy.dtype)[:, None]
    likelihoods = Likelihoods(policy[:, None], reference.to(policy)[:, None])
    return total_loss(objective or kto(), likelihoods, Feedback(labels))


def two_pass(
    denoiser: Denoiser,
    prepared: Prepared,
    reference: Tensor,
    kept_tokens: int = 0,
    objective: Objective | None = None,
) -> float:
    """Accumulate the exact gradient of the batch objective; returns the loss."""
    recomputed, kept = split_kept(prepared.packed, kept_tokens)
    sums = row_values_without_graph(denoiser, recomputed, prepared.num_rows)
    graphs = []
    for packed in kept:  # after the others, so that no graph waits while they run
        graphs.append(row_values(denoiser, packed))
        sums = sums.to(graphs[-1].dtype)
        sums[packed.order] = graphs[-1].detach().cpu()
    loss, factors = objective_weights(prepared, combine(sums, prepared.plans).values, reference, objective)
    while kept:
        _backward(graphs.pop(), kept.pop(), factors)
    for packed in recomputed:
        _backward(row_values(denoiser, packed), packed, factors)
    return loss


def split_kept(packed: Sequence[PackedRows], kept_tokens: int) -> tuple[list[PackedRows], list[PackedRows]]:
    """Micro-batches to run twice, and those whose graphs are kept: the largest that fit into `kept_tokens`."""
    recomputed, kept, room = [], [], kept_tokens
    for part in sorted(packed, key=lambda part: -sum(part.segment_lengths)):
        tokens = sum(part.segment_lengths)
        (kept if tokens <= room else recomputed).append(part)
        room -= tokens if tokens <= room else 0
    return recomputed, kept


def one_pass(
    denoiser: Denoiser,
    prepared: Prepared,
    reference: Tensor,
    checkpointing: bool,
    objective: Objective | None = None,
) -> float:
    """The same gradient from one graph over the whole batch; `checkpointing` recomputes every block in backward."""
    with checkpointed(denoiser.model) if checkpointing else nullcontext():
        parts = [row_values(denoiser, packed) for packed in prepared.packed]
    order = torch.tensor([row for packed in prepared.packed for row in packed.order])
    policy = combine(torch.cat(parts)[order.argsort()], prepared.plans).values
    loss = objective_loss(prepared, policy, reference, objective)
    loss.backward()
    return float(loss.detach())


def _backward(values_R: Tensor, packed: PackedRows, factors: Tensor) -> None:
    (factors[packed.order].to(values_R) * values_R).sum().backward()
