"""Likelihood of held-out text before and after: has the model forgotten anything, and does it follow the thumbs?

NELBO per token    -sum_i B_i / sum_i L_i over the texts of a set, nats
relative change    (NELBO after - NELBO before) / NELBO before, on the same draws
margin             r_i = B_aligned(i) - B_base(i), nats summed over the answer
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unveil.demo.align import BASE_END_OF_ANSWER, tokenized
from unveil.demo.base import Base
from unveil.demo.order import in_hash_order
from unveil.demo.progress import Advance
from unveil.demo.recipe import Recipe, Split
from unveil.demo.reviews import feedback_rows, heldout_text
from unveil.draws import plan
from unveil.likelihood import Response, score
from unveil.models import Denoiser

_CHUNK = 64
# Draws of training count epochs from 0 up; a seed of its own keeps these apart from them.
_DRAW_SEED = 20_000


@dataclass(frozen=True)
class HeldOut:
    """One set of held-out texts: tokenised, with the thumb of each text where a person gave one."""

    name: str
    responses: list[Response]
    thumbs: list[bool | None]

    @property
    def tokens(self) -> int:
        """Scored tokens of all texts."""
        return sum(response.length for response in self.responses)


@dataclass(frozen=True)
class NelboChange:
    """NELBO per token of a set before and after, and the relative change with its standard error over texts."""

    before: float
    after: float
    change: float
    standard_error: float
    texts: int


def held_out_sets(base: Base, recipe: Recipe, split: Split) -> list[HeldOut]:
    """`film`: the texts of the split; `product`: a domain that gets no feedback at all."""
    thumbs = {(row["prompt"], row["completion"]): row["label"] for row in feedback_rows(split)}
    sets = []
    for name, part in (("film", split), ("product", "product")):
        rows = in_hash_order(heldout_text(part), lambda row: row["prompt"] + row["completion"])[: recipe.num_texts]
        ids = tokenized(rows, base, BASE_END_OF_ANSWER, recipe.canvas_length)
        labels = [thumbs.get((row["prompt"], row["completion"])) if name == "film" else None for row in rows]
        sets.append(HeldOut(name, [Response.from_row(dict(row)) for row in ids], labels))
    return sets


def surrogates(denoiser: Denoiser, texts: HeldOut, recipe: Recipe, advance: Advance) -> NDArray[np.float64]:
    """ELBO of every text, nats `[N]`; the draws depend on the text's number alone, so models share them."""
    values = []
    for start in range(0, len(texts.responses), _CHUNK):
        part = texts.responses[start : start + _CHUNK]
        plans = [plan(_DRAW_SEED, r.example_id, 0, r.length, recipe.eval_draws) for r in part]
        values.append(score(denoiser, part, plans).values.double().numpy())
        advance(len(part))
    return np.concatenate(values)


def nelbo_change(texts: HeldOut, before: NDArray[np.float64], after: NDArray[np.float64]) -> NelboChange:
    """Compare two models' ELBOs of the same texts; the standard error is that of a ratio of sums over texts."""
    change = float(-(after - before).sum() / -before.sum())
    residuals = -(after - before) - change * -before
    error = float(np.sqrt(len(before) * residuals.var(ddof=1))) / float(-before.sum()) if len(before) > 1 else 0.0
    return NelboChange(
        before=float(-before.sum()) / texts.tokens,
        after=float(-after.sum()) / texts.tokens,
        change=change,
        standard_error=error,
        texts=len(before),
    )
