"""Texts longer than the context: windows that score every token once (lm-eval's rolling log-likelihood).

The first window scores as many tokens as fit with nothing before them; each later one scores half a context of tokens
given the half context before them, the last one fewer tokens given more. The sum is a lower bound of log p of the text
under the model that sees that much: the chain rule, window by window.
"""

import math
from collections.abc import Sequence

from unveil.evaluation.likelihoods import Estimate, Target


def rolling_targets(ids: Sequence[int], max_length: int | None, prefix: Sequence[int] = ()) -> list[Target]:
    """Windows of at most `max_length` tokens (None: one window) over a text; `prefix` stands before the first one."""
    if not ids:
        return []
    room = len(ids) if max_length is None else max(1, max_length - len(prefix))
    targets = [Target(tuple(prefix), tuple(ids[:room]))]
    if max_length is None:
        return targets
    stride = max(1, max_length // 2)
    for start in range(room, len(ids), stride):
        end = min(start + stride, len(ids))
        targets.append(Target(tuple(ids[max(0, end - max_length) : start]), tuple(ids[start:end])))
    return targets


def total(estimates: Sequence[Estimate]) -> Estimate:
    """The sum over windows; their draws are independent, so that variances add."""
    errors = [estimate.standard_error for estimate in estimates]
    known = [error for error in errors if error is not None]
    return Estimate(
        math.fsum(estimate.value for estimate in estimates),
        math.sqrt(math.fsum(error * error for error in known)) if len(known) == len(errors) else None,
        sum(estimate.tokens for estimate in estimates),
        sum(estimate.forwards for estimate in estimates),
    )
