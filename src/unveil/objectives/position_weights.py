"""Which tokens count how much inside a surrogate: the part of a method that the likelihood applies, not the objective.

LD-DPO cuts the tail of the longer answer, Tree-PO weighs reasoning steps, IRPO scores spans of one answer. In all of
them `B = sum_i w_i b_i` for policy and reference alike, with w fixed by lengths or by a column of the data; the
objective is the plain one and carries this declaration for the trainer.

In a diffusion model the first tokens of an answer are denoised with the rest in view, so a weighted sum is not the
ELBO of a prefix or of a step.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PositionWeights:
    """A declaration: where the weights w of the scored tokens come from.

    kind:
        `ld`: 1 up to the length of the prompt's shortest answer, `alpha` beyond (LD-DPO, arXiv 2409.06411);
        `steps`: the column `position_weights` of the data, one weight per scored token;
        `spans`: the same column with zeros outside of an item, one response per item of one ranked answer; the
        length of an item is the number of its tokens, not of the answer.
    """

    kind: Literal["ld", "steps", "spans"]
    alpha: float = 1.0
