"""Log-probabilities whose last bit does not depend on what else is scored: one answer at a time.

Matrix products of other shapes round differently, so the value of a row depends, in its last bits, on the rows that
share its batch. Values that were computed once and kept (a reference cache) can equal those of a live model bit for
bit only if both come from batches of one composition. Here that is the answer: its K rows, all of one length, in
blocks of at most `CANONICAL_TOKENS` tokens. Neither data order, nor batch size, nor `--tokens_per_batch`, nor the
number of processes changes them.
"""

from collections.abc import Sequence
from itertools import groupby

import torch

from unveil.draws import Plan
from unveil.likelihood.head import hidden_log_probs
from unveil.likelihood.packing import PackedRows, pack
from unveil.likelihood.rows import Response, Row, build_rows
from unveil.models import Denoiser

CANONICAL_TOKENS = 4096
"""Part of what the values are: another number gives other last bits."""


def canonical_batches(rows: Sequence[Row], device: torch.device | str = "cpu") -> list[PackedRows]:
    """Pack the rows of one answer together, answer by answer, draw by draw; `rows` are those of `build_rows`."""
    batches = []
    for _, members in groupby(range(len(rows)), key=lambda row: rows[row].response):
        order = list(members)
        size = max(1, CANONICAL_TOKENS // rows[order[0]].length)
        batches += [pack(rows, order[start : start + size], device) for start in range(0, len(order), size)]
    return batches


def canonical_log_probs(denoiser: Denoiser, rows: Sequence[Row]) -> list[torch.Tensor]:
    """log p of the hidden tokens of every row, `[l]` nats each, on the CPU, without graph.

    Args:
        denoiser: the model, in evaluation mode.
        rows: those of `build_rows`.
    """
    found: list[torch.Tensor] = []
    with torch.no_grad():
        for packed in canonical_batches(rows, denoiser.device):
            found += hidden_log_probs(denoiser, packed).cpu().split(packed.hidden_counts)
    return found


def canonical_row_sums(denoiser: Denoiser, responses: Sequence[Response], plans: Sequence[Plan]) -> torch.Tensor:
    """`S(M)` of all rows of the responses under their plans, `[sum of K]` nats, on the CPU."""
    log_probs = canonical_log_probs(denoiser, build_rows(responses, plans, denoiser.mask_token_id))
    return torch.stack([log_p.sum() for log_p in log_probs])
