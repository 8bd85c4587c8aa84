"""From logits to one token per position: temperature, top-k, nucleus, and how sure the model was.

LLaDA draws tokens by Gumbel-max in float64: argmax of exp(logits) / (-log u)^temperature. That is the argmax of
logits / temperature + g with g = -log(-log u), whose law is softmax(logits / temperature). The second form is used
here, in float64 too, because float32 noise has a short tail and acts like a lower temperature.

Deviation from LLaDA: forbidden tokens (always the mask token) have logit -inf, so a mask is never committed as text.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from unveil.generation.noise import gumbel

Measure = Literal["probability", "entropy", "margin"]

_NUCLEUS_WIDTH = 256


def predict(
    logits_NV: Tensor,
    keys_N: Tensor,
    *,
    temperature: float,
    top_p: float,
    forbidden: Tensor,
    measure: Measure | None,
    top_k: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a token for each row of logits.

    keys_N: int64 keys of the noise (see `noise`), unused at temperature 0. forbidden: int64 token ids.
    Returns tokens int64 [N]; confidence float64 [N] (zeros without a `measure`); finite bool [N], False where the
    model's logits are not usable (NaN or infinite).

    Confidence is from 0 to 1 and about softmax(logits), without temperature, top-k or nucleus, as in LLaDA:
    "probability" of the drawn token; "margin" from the most likely token to the next; "entropy" as exp(-entropy).
    """
    budget = 1 << (17 if logits_NV.device.type == "cpu" else 24)  # float64 temporaries: in cache, or 128 MB
    rows = max(1, budget // logits_NV.shape[1])
    parts = []
    for logits, keys in zip(logits_NV.split(rows), keys_N.split(rows), strict=True):
        scores = logits.to(torch.float64, copy=True).index_fill_(1, forbidden, -torch.inf)
        tokens = _draw(scores, keys, temperature, top_p, top_k)
        chosen = scores.gather(1, tokens[:, None])[:, 0]
        parts.append((tokens, _confidence(scores, chosen, measure), chosen.isfinite()))
    tokens, confidence, finite = (torch.cat(column) for column in zip(*parts, strict=True))
    return tokens, confidence, finite


def _confidence(scores_NV: Tensor, chosen_N: Tensor, measure: Measure | None) -> Tensor:
    if measure is None:
        return torch.zeros_like(chosen_N)
    log_total_N = scores_NV.logsumexp(1)
    if measure == "probability":
        return (chosen_N - log_total_N).exp()
    if measure == "entropy":
        return torch.special.entr((scores_NV - log_total_N[:, None]).exp()).sum(1).neg().exp()
    best_NK = (scores_NV.topk(min(2, scores_NV.shape[1]), dim=1).values - log_total_N[:, None]).exp()
    return best_NK[:, 0] - best_NK[:, 1:].sum(1)


def _draw(scores_NV: Tensor, keys_N: Tensor, temperature: float, top_p: float, top_k: int | None) -> Tensor:
    if temperature == 0:
        return scores_NV.argmax(1)
    tempered_NV = scores_NV / temperature
    if top_p == 1 and top_k is None:
        tokens_V = torch.arange(scores_NV.shape[1], device=scores_NV.device)
        return tempered_NV.add_(gumbel(keys_N[:, None], tokens_V)).argmax(1)
    if top_k is None:
        tokens_N = torch.empty_like(keys_N)
        for row_R, kept_RK, tokens_RK in nuclei(tempered_NV, top_p):
            tokens_N[row_R] = _best(kept_RK, tokens_RK, keys_N[row_R])
        return tokens_N
    kept_NK, tokens_NK = tempered_NV.topk(min(top_k, scores_NV.shape[1]), dim=1)
    if top_p < 1:
        kept_NK = _cut_nucleus(kept_NK, kept_NK.logsumexp(1, keepdim=True), top_p)[0]
    return _best(kept_NK, tokens_NK, keys_N)


def _best(kept_NK: Tensor, tokens_NK: Tensor, keys_N: Tensor) -> Tensor:
    best_N = kept_NK.add_(gumbel(keys_N[:, None], tokens_NK)).argmax(1)
    return tokens_NK.gather(1, best_N[:, None])[:, 0]


def nuclei(scores_NV: Tensor, top_p: float, width: int = _NUCLEUS_WIDTH) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The smallest set of most likely tokens of each row whose probability reaches `top_p` (Holtzman et al. 2020).

    Yields groups of rows whose nuclei are of similar size: row numbers [R], scores [R, K], -inf outside the nucleus,
    and their token ids [R, K]. A full sort of the vocabulary is several times dearer than a narrow top-K, so K starts
    at `width` and grows for the rows that need it, and only for those: a flat row must not make its batch wait.
    """
    row_R = torch.arange(scores_NV.shape[0], device=scores_NV.device)
    log_total_N1 = scores_NV.logsumexp(1, keepdim=True)
    while True:
        width = min(width, scores_NV.shape[1])
        best_RK, tokens_RK = scores_NV.topk(width, dim=1)
        kept_RK, inside_R = _cut_nucleus(best_RK, log_total_N1, top_p)
        if width == scores_NV.shape[1] or bool(inside_R.all()):
            yield row_R, kept_RK, tokens_RK
            return
        if bool(inside_R.any()):
            yield row_R[inside_R], kept_RK[inside_R], tokens_RK[inside_R]
            row_R, scores_NV, log_total_N1 = row_R[~inside_R], scores_NV[~inside_R], log_total_N1[~inside_R]
        width *= 4


def _cut_nucleus(best_NK: Tensor, log_total_N1: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Descending scores, -inf beyond the nucleus; and bool [N], whether a row's nucleus ends inside the K."""
    probability_NK = (best_NK - log_total_N1).exp()
    before_NK = probability_NK.cumsum(1) - probability_NK
    return best_NK.masked_fill(before_NK >= top_p, -torch.inf), before_NK[:, -1] >= top_p
