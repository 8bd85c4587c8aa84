"""What each scored token of an answer counts: LD-DPO's shared length, steps of a solution, items of a ranked answer.

A weighting enters the likelihood estimator, `B = sum_i w_i b_i` over scored positions, for policy and reference alike
(sum over tokens, nats). Objectives never see tokens. All weights are float64, one per scored token.
"""

from collections.abc import Sequence

import numpy as np

from unveil.errors import UserError


def ld_weights(lengths: Sequence[int], alpha: float) -> list[np.ndarray]:
    """Length desensitisation (LD-DPO, arXiv 2409.06411): 1 up to the shortest answer's length, `alpha` beyond.

    `lengths` are the scored tokens of all candidates of a prompt, at least 1 each; `alpha` lies in [0, 1]: 1 changes
    nothing, 0 ignores the surplus (the paper finds 0.5 a good start). Weights multiply with other weights.
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"--objective_args alpha={alpha}: must lie between 0 and 1; 1 is plain DPO")
    if not lengths or min(lengths) < 1:
        raise ValueError(f"lengths {list(lengths)}: every candidate needs at least one scored token")
    shared = min(lengths)
    return [np.where(np.arange(length) < shared, 1.0, float(alpha)) for length in lengths]


def step_weights(steps: Sequence[Sequence[int]], weights: Sequence[float], length: int) -> np.ndarray:
    """Every token of step j, [start, end) in tokens, counts `weights[j]`; tokens outside all steps count 1."""
    result = np.ones(length)
    for (start, end), weight in zip(steps, weights, strict=True):
        result[start:end] = weight
    return result


def span_weights(span: Sequence[int], length: int) -> np.ndarray:
    """One item of an answer (IRPO, arXiv 2504.15477): 1 on its tokens [start, end), 0 on the others.

    The number of tokens of the item, by which IRPO divides, is the sum of the weights.
    """
    result = np.zeros(length)
    result[slice(*span)] = 1.0
    return result


def tokens_of(places: Sequence[Sequence[int]], spans: Sequence[Sequence[int]], length: int) -> list[list[int]]:
    """Spans of characters as [start, end) in tokens, cut at `length` scored tokens.

    `places[i]` are the characters [start, end) of token i. A token belongs to the span that holds its last character,
    so that a space written as the start of the next word counts there. A span without a token is empty: start = end.
    """
    last = np.maximum.accumulate(np.array([end - 1 for _, end in places], dtype=np.int64))
    ranges = [np.searchsorted(last, span, side="left") for span in spans]
    return [[min(int(start), length), min(int(end), length)] for start, end in ranges]
