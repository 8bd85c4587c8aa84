"""The table of all objectives: what each one is, what data it takes, where it comes from."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unveil.objectives import recipes_adaptive as adaptive
from unveil.objectives import recipes_lists as lists
from unveil.objectives import recipes_pairs as pairs
from unveil.objectives import recipes_points as points
from unveil.objectives import recipes_reference_free as free
from unveil.objectives.interface import Objective, Shape
from unveil.objectives.kto import kto
from unveil.objectives.sft import sft


@dataclass(frozen=True)
class Recipe:
    """One row of the table.

    `make` has typed keyword parameters with the published defaults; its docstring is the reference text. `shape` and
    `needs_reference` are those of `make()` (DisCO without its penalty needs no reference).
    """

    name: str
    make: Callable[..., Objective]
    shape: Shape
    needs_reference: bool
    paper: str
    summary: str

    @property
    def columns(self) -> tuple[str, ...]:
        """What the feedback must hold; data without it are refused before training."""
        return self.make().columns

    @property
    def defaults(self) -> dict[str, Any]:
        """Hyper-parameters and their defaults, in the order of the signature."""
        return {name: parameter.default for name, parameter in inspect.signature(self.make).parameters.items()}

    @property
    def stateful(self) -> bool:
        """Whether the objective remembers something between batches."""
        return bool(self.make().initial_state())

    @property
    def per_draw(self) -> bool:
        """Whether the surrogates must come with their axis of draws."""
        return self.make().per_draw


_TABLE: tuple[Recipe, ...] = (
    Recipe("kto", kto, "unpaired", True, "2510.23658", "sigmoid of margins around the batch mean, from thumbs"),
    Recipe("dpo", pairs.dpo, "pairs", True, "2305.18290", "logistic loss on the difference of log-ratios"),
    Recipe("vrpo", pairs.vrpo, "pairs", True, "2505.19223", "LLaDA 1.5: DPO on shared draws plus 0.05 SFT"),
    Recipe("d2_dpo", pairs.d2_dpo, "pairs", True, "2503.08295", "DPO per draw, expectation outside of the link"),
    Recipe("cdpo", pairs.cdpo, "pairs", True, "Mitchell 2023", "DPO with smoothed labels"),
    Recipe("rdpo", pairs.rdpo, "pairs", True, "2403.00409", "DPO unbiased under a known rate of flipped labels"),
    Recipe("fdpo", pairs.fdpo, "pairs", True, "2309.16240", "DPO under another f-divergence"),
    Recipe("ipo", pairs.ipo, "pairs", True, "2310.12036", "squared distance of the margin to a target"),
    Recipe("hinge", pairs.hinge, "pairs", True, "2305.10425", "SLiC: hinge loss on the margin"),
    Recipe("simpo", free.simpo, "pairs", False, "2405.14734", "per-token likelihoods with a margin"),
    Recipe("cpo", free.cpo, "pairs", False, "2401.08417", "DPO without reference plus SFT"),
    Recipe("orpo", free.orpo, "pairs", False, "2403.07691", "SFT plus a logistic loss on log-odds"),
    Recipe("exo", pairs.exo, "pairs", True, "2402.00856", "reverse KL from policy to smoothed labels"),
    Recipe("apo_zero", points.apo_zero, "pairs", True, "2408.06266", "raise chosen, lower rejected, saturating"),
    Recipe("apo_down", points.apo_down, "pairs", True, "2408.06266", "lower both, the rejected more"),
    Recipe("apo_zero_unpaired", points.apo_zero_unpaired, "unpaired", True, "2408.06266", "APO-zero on thumbs"),
    Recipe("bco", points.bco, "unpaired", True, "2404.04656", "classifier of thumbs around a running shift"),
    Recipe("bco_pair", points.bco_pair, "pairs", True, "2404.04656", "BCO on pairs without a shift"),
    Recipe("nca", points.nca, "pairs", True, "2402.05369", "noise-contrastive, fixes the level of rewards"),
    Recipe("sppo", points.sppo, "pairs", True, "2405.00675", "squared distance of each log-ratio to +-1/(2 beta)"),
    Recipe("discopop", pairs.discopop, "pairs", True, "2406.08414", "discovered blend of logistic and exponential"),
    Recipe("asft", free.asft, "unpaired", False, "2409.10571", "SFT plus absolute log-odds of each answer"),
    Recipe("ld_dpo", pairs.ld_dpo, "pairs", True, "2409.06411", "DPO with the longer answer's tail weighted down"),
    Recipe("madpo", adaptive.madpo, "pairs", True, "2510.05342", "DPO weighted by a reward model's margin"),
    Recipe("beta_dpo", adaptive.beta_dpo, "pairs", True, "2407.08639", "DPO with batch-wise beta and a filter"),
    Recipe("da_dpo", adaptive.da_dpo, "pairs", True, "2601.00623", "DPO with beta by difficulty"),
    Recipe("soft_dpo", adaptive.soft_dpo, "pairs", True, "2506.02698", "SmPO: DPO with soft labels"),
    Recipe("adpo", lists.adpo, "lists", True, "2510.18913", "KL to a softmax of rewards, anchored"),
    Recipe("irpo", lists.irpo, "lists", True, "2504.15477", "ranks the items of one shown answer"),
    Recipe("tree_po", lists.tree_po, "lists", True, "2410.12854", "LambdaLoss on weighted reasoning steps"),
    Recipe("rankdpo", lists.rankdpo, "lists", True, "2410.18013", "all pairs, weighted by what a swap costs in DCG"),
    Recipe("plackett_luce", lists.plackett_luce, "lists", True, "2305.18290", "likelihood of a whole ranking"),
    Recipe("lipo", lists.lipo, "lists", True, "2402.01878", "RankDPO with ranks by current rewards"),
    Recipe("flex_dpo", pairs.flex_dpo, "pairs", True, "2406.07327", "DPO that pushes the rejected less"),
    Recipe("disco", lists.disco, "lists", True, "2505.12366", "likely positives over soft-max negatives, trust region"),
    Recipe("ddo", points.ddo, "unpaired", True, "2503.01103", "real answers against the reference's own samples"),
    Recipe("sft", sft, "unpaired", False, "2502.09992", "minus the ELBO per token of liked answers"),
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _TABLE}
"""Every objective by its name; the order is that of the table for people."""
