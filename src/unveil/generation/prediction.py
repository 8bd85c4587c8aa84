"""From logits to one token per position: temperature, nucleus, and how sure the model was.

LLaDA draws tokens by Gumbel-max in float64: argmax of exp(logits) / (-log u)^temperature. That is the argmax of
logits / temperature + g with g = -log(-log u), whose law is softmax(logits / temperature). The second form is used
here, in float64 too, because float32 noise has a short tail and acts like a lower temperature.

Deviation from LLaDA: forbidden tokens (always the mask token) have logit -inf, so a mask is never committed as text.
"""

import torch
from torch import Tensor

from unveil.generation.noise import gumbel

_NUCLEUS_WIDTH = 256


def predict(
    logits_NV: Tensor,
    keys_N: Tensor,
    *,
    temperature: float,
    top_p: float,
    forbidden: Tensor,
    with_confidence: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a token for each row of logits.

    keys_N: int64 keys of the noise (see `noise`), unused at temperature 0. forbidden: int64 token ids.
    Returns tokens int64 [N]; confidence float64 [N], the probability of the drawn token under softmax(logits) without
    temperature or nucleus, as in LLaDA (zeros unless `with_confidence`); finite bool [N], False where the model's
    logits are not usable (NaN or infinite).
    """
    budget = 1 << (17 if logits_NV.device.type == "cpu" else 24)  # float64 temporaries: in cache, or 128 MB
    rows = max(1, budget // logits_NV.shape[1])
    parts = [
        _predict_rows(logits, keys, temperature, top_p, forbidden, with_confidence)
        for logits, keys in zip(logits_NV.split(rows), keys_N.split(rows), strict=True)
    ]
    tokens, confidence, finite = (torch.cat(column) for column in zip(*parts, strict=True))
    return tokens, confidence, finite


def _predict_rows(
    logits_NV: Tensor, keys_N: Tensor, temperature: float, top_p: float, forbidden: Tensor, with_confidence: bool
) -> tuple[Tensor, Tensor, Tensor]:
    scores_NV = logits_NV.to(torch.float64, copy=True).index_fill_(1, forbidden, -torch.inf)
    tokens_N = _draw(scores_NV, keys_N, temperature, top_p)
    chosen_N = scores_NV.gather(1, tokens_N[:, None])[:, 0]
    confidence_N = (chosen_N - scores_NV.logsumexp(1)).exp() if with_confidence else torch.zeros_like(chosen_N)
    return tokens_N, confidence_N, chosen_N.isfinite()


def _draw(scores_NV: Tensor, keys_N: Tensor, temperature: float, top_p: float) -> Tensor:
    if temperature == 0:
        return scores_NV.argmax(1)
    tempered_NV = scores_NV / temperature
    if top_p == 1:
        tokens_V = torch.arange(scores_NV.shape[1], device=scores_NV.device)
        return tempered_NV.add_(gumbel(keys_N[:, None], tokens_V)).argmax(1)
    kept_NK, tokens_NK = nucleus(tempered_NV, top_p)
    best_N = kept_NK.add_(gumbel(keys_N[:, None], tokens_NK)).argmax(1)
    return tokens_NK.gather(1, best_N[:, None])[:, 0]


def nucleus(scores_NV: Tensor, top_p: float, width: int = _NUCLEUS_WIDTH) -> tuple[Tensor, Tensor]:
    """The smallest set of most likely tokens of each row whose probability reaches `top_p` (Holtzman et al. 2020).

    Returns scores [N, K], -inf outside the nucleus, and their token ids [N, K], K = the width that sufficed for
    all rows. A full sort of the vocabulary is several times dearer, so a narrow top-K is tried first.
    """
    log_total_N1 = scores_NV.logsumexp(1, keepdim=True)
    while True:
        width = min(width, scores_NV.shape[1])
        best_NK, tokens_NK = scores_NV.topk(width, dim=1)
        probability_NK = (best_NK - log_total_N1).exp()
        before_NK = probability_NK.cumsum(1) - probability_NK
        if width == scores_NV.shape[1] or bool((before_NK[:, -1] >= top_p).all()):
            return best_NK.masked_fill(before_NK >= top_p, -torch.inf), tokens_NK
        width *= 4
