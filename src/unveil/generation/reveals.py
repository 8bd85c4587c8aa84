"""Which masked positions a step commits, and the step as whoever watches sees it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unveil.generation.config import GenerationConfig


@dataclass(frozen=True)
class Step:
    """One step of a batch of N answers, told to observers after its tokens are committed.

    rows: numbers of the prompts in the list that was given. tokens: int64 [N, gen_length], the mask token where
    `masked`, bool [N, gen_length]. row, position, token, confidence: [K], the K tokens committed by this step; `row`
    counts in `rows`. Confidence is the number that `remasking` goes by; with "random", the token's probability.
    Tensors are the observer's to keep.
    """

    rows: Sequence[int]
    tokens: Tensor
    masked: Tensor
    row: Tensor
    position: Tensor
    token: Tensor
    confidence: Tensor


Observer = Callable[[Step], None]


def chosen(
    config: GenerationConfig,
    confidence_NS: Tensor,
    masked_NS: Tensor,
    is_end_NS: Tensor | None,
    counts_N: Tensor,
) -> Tensor:
    """Bool [N, S]: what a step commits among the S positions of each row's block.

    confidence_NS: from 0 to 1. is_end_NS: where an end token is predicted, for the rule "late". counts_N: how many
    to commit where the schedule decides.
    """
    score_NS = confidence_NS.masked_fill(~masked_NS, -torch.inf)
    if is_end_NS is not None:  # below all others, unless there are no others
        others_N1 = (masked_NS & ~is_end_NS).any(1, keepdim=True)
        score_NS = score_NS - 2.0 * (is_end_NS & others_N1)
    # Stable: equals are committed from left to right.
    order_NS = score_NS.argsort(dim=1, descending=True, stable=True)
    rank_NS = torch.empty_like(order_NS).scatter_(
        1, order_NS, torch.arange(order_NS.shape[1], device=order_NS.device).expand_as(order_NS)
    )
    if config.confidence_threshold is not None:
        sure_NS = score_NS > config.confidence_threshold
    elif config.confidence_factor is not None:
        # (n + 1)(1 - confidence) grows with n = rank + 1, so the n that pass are the first ones.
        sure_NS = (rank_NS + 2) * (1 - score_NS) < config.confidence_factor
    else:
        return masked_NS & (rank_NS < counts_N[:, None])
    return masked_NS & (sure_NS | (rank_NS == 0))
