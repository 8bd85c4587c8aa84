"""From rows to numbers: `S(M)`, the sum of log p(true token) over the hidden places of each row, in nats."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from unveil.draws import Plan
from unveil.likelihood.head import hidden_log_probs
from unveil.likelihood.packing import PackedRows, micro_batches
from unveil.likelihood.rows import Response, build_rows
from unveil.likelihood.uncertainty import standard_error
from unveil.models import Denoiser

DEFAULT_TOKENS_PER_BATCH = 8192


class Surrogates(NamedTuple):
    """Estimated ELBOs of N responses, nats, summed over scored tokens.

    `values` `[N]` and `standard_error` `[N]` are float32 (or the model's dtype when wider); `per_draw[i]` `[K]`
    holds `(L / l_k) S(M_k)`, one unbiased (iid) or per-stratum value per draw, so that
    `values[i] = sum_k shares_k per_draw[i][k]`.
    """

    values: torch.Tensor
    per_draw: list[torch.Tensor]
    standard_error: torch.Tensor


def row_values(denoiser: Denoiser, packed: PackedRows) -> torch.Tensor:
    """`S(M)` of each packed row, `[R]` nats, with graph when gradients are on.

    Logits exist only at the hidden places; log-probabilities and sums are float32 or wider.
    """
    return packed.row_sums(hidden_log_probs(denoiser, packed))


def row_values_without_graph(denoiser: Denoiser, batches: Sequence[PackedRows], num_rows: int) -> torch.Tensor:
    """`S(M)` of all rows in their original order, `[num_rows]`, on the CPU."""
    values = torch.empty(num_rows, dtype=torch.float32)
    with torch.no_grad():
        for packed in batches:
            sums = row_values(denoiser, packed).cpu()
            if sums.dtype != values.dtype:
                values = values.to(sums.dtype)
            values[packed.order] = sums
    return values


def combine(row_sums: torch.Tensor, plans: Sequence[Plan]) -> Surrogates:
    """Weigh row sums `[sum of K]`, response by response, into surrogates and their standard errors."""
    values, per_draw, errors = [], [], []
    if not plans:  # a process without rows in this step
        return Surrogates(row_sums[:0], [], row_sums[:0])
    for sums, plan in zip(row_sums.split([len(p.weights) for p in plans]), plans, strict=True):
        draws = sums * torch.from_numpy(plan.weights / plan.shares).to(sums.dtype)
        values.append((draws * torch.from_numpy(plan.shares).to(sums.dtype)).sum())
        errors.append(standard_error(draws, plan))
        per_draw.append(draws)
    return Surrogates(torch.stack(values), per_draw, torch.stack(errors))


def score(
    denoiser: Denoiser,
    responses: Sequence[Response],
    plans: Sequence[Plan],
    tokens_per_batch: int = DEFAULT_TOKENS_PER_BATCH,
) -> Surrogates:
    """Monte-Carlo ELBO of each response given its prompt (LLaDA, arXiv 2502.09992, eq. 6), without gradient.

    Args:
        denoiser: the model; call it in evaluation mode (dropout would make two passes differ).
        responses: N responses with at least one scored token each.
        plans: their draw plans; give policy and reference the same plans (common random numbers).
        tokens_per_batch: token budget of one forward pass; the values do not depend on it beyond rounding.
    """
    rows = build_rows(responses, plans, denoiser.mask_token_id)
    batches = micro_batches(rows, tokens_per_batch, denoiser.device)
    return combine(row_values_without_graph(denoiser, batches, len(rows)), plans)
