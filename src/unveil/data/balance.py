"""How many thumbs up and down there are, what they weigh together, and how to keep only some of them.

KTO (arXiv 2402.01306) recommends class weights with  1 <= lambda_D n_D / (lambda_U n_U) <= 4/3.
"""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from unveil.data.columns import column
from unveil.errors import UserError, warn_user

RECOMMENDED = (1.0, 4.0 / 3.0)
TOLERATED = (0.5, 2.0)
_TARGET = 1.15  # inside RECOMMENDED with room for a weight that is printed with three digits


@dataclass(frozen=True)
class ClassBalance:
    """Counts, weights and mean scored lengths (tokens; None before tokenising or for an absent class)."""

    n_desirable: int
    n_undesirable: int
    desirable_weight: float
    undesirable_weight: float
    mean_length_desirable: float | None
    mean_length_undesirable: float | None
    recommend: bool = True
    """Whether the objective has such weights, so that a ratio can be recommended."""
    mean_weights: tuple[float, float] = (1.0, 1.0)
    """Mean of the column `weight` over desirable and over undesirable rows."""

    @property
    def ratio(self) -> float:
        """lambda_D n_D / (lambda_U n_U), n by the weights of the rows; infinite if the second side weighs nothing."""
        desirable = self.desirable_weight * self.n_desirable * self.mean_weights[0]
        undesirable = self.undesirable_weight * self.n_undesirable * self.mean_weights[1]
        return desirable / undesirable if undesirable else math.inf

    @property
    def remedy(self) -> str | None:
        """The weight of the lighter side that brings the ratio into the recommended range, if it is outside."""
        if RECOMMENDED[0] <= self.ratio <= RECOMMENDED[1] or self.ratio in (0.0, math.inf):
            return None
        if self.ratio < RECOMMENDED[0]:
            return f"--desirable_weight {self.desirable_weight * _TARGET / self.ratio:.3g}"
        return f"--undesirable_weight {self.undesirable_weight * self.ratio / _TARGET:.3g}"

    def describe(self) -> str:
        """One or two lines for the start of a run."""
        line = (
            f"{self.n_desirable} desirable{_mean(self.mean_length_desirable)}, "
            f"{self.n_undesirable} undesirable{_mean(self.mean_length_undesirable)}"
        )
        if not self.recommend:
            return line
        line += f", weighted ratio {self.ratio:.3g}"
        if RECOMMENDED[0] <= self.ratio <= RECOMMENDED[1]:
            return line
        remedy = f"; {self.remedy} would bring it there" if self.remedy else ""
        return f"{line}\nKTO recommends a ratio of 1 to 1.33{remedy}"


def class_balance(
    dataset: Dataset, desirable_weight: float = 1.0, undesirable_weight: float = 1.0, recommend: bool = True
) -> ClassBalance:
    """Balance of a data set with `label`; warns when the weighted ratio is outside [0.5, 2].

    With `recommend` off, for objectives without such weights, it neither warns nor names a ratio. Weights must be
    finite and >= 0. Mean lengths need `completion_ids`.
    """
    for flag, weight in (("desirable_weight", desirable_weight), ("undesirable_weight", undesirable_weight)):
        if not (math.isfinite(weight) and weight >= 0):
            raise UserError(f"--{flag} {weight}: a weight must be finite and at least 0; correct it")
    labels = _labels(dataset)
    lengths = None
    if "completion_ids" in dataset.column_names:
        lengths = pc.call_function("list_value_length", [column(dataset, "completion_ids")]).to_numpy()
    given = "weight" in dataset.column_names
    weight = column(dataset, "weight").to_numpy().astype(float) if given else np.ones(len(dataset))
    balance = ClassBalance(
        n_desirable=int(labels.sum()),
        n_undesirable=int((~labels).sum()),
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
        mean_length_desirable=_mean_of(lengths, labels),
        mean_length_undesirable=_mean_of(lengths, ~labels),
        recommend=recommend,
        mean_weights=(_mean_of(weight, labels) or 1.0, _mean_of(weight, ~labels) or 1.0),
    )
    if recommend and not TOLERATED[0] <= balance.ratio <= TOLERATED[1]:
        warn_user(f"labels out of balance: {balance.describe()}".replace("\n", "; "))
    return balance


def subsample(dataset: Dataset, n_desirable: float = 1.0, n_undesirable: float = 1.0, seed: int = 42) -> Dataset:
    """Keep some rows of each label, drawn without replacement, in their order and with their `example_id`.

    A value in (0, 1] is a ratio (at least one row is kept), an integer above 1 a count, 0 keeps none; not both 0.
    The draw depends on `seed` and the label alone, and a smaller sample is a part of a larger one.
    """
    if n_desirable == 0 and n_undesirable == 0:
        raise UserError("--n_desirable 0 --n_undesirable 0: no row would be left; keep some of one label")
    labels = _labels(dataset)
    kept = []
    for flag, label, wanted in (("n_desirable", True, n_desirable), ("n_undesirable", False, n_undesirable)):
        rows = np.flatnonzero(labels == label)
        count = _count(wanted, len(rows), f"--{flag} {wanted}")
        kept.append(np.random.default_rng([seed, int(label)]).permutation(rows)[:count])
    rows = np.sort(np.concatenate(kept))
    if len(rows) == 0:
        raise UserError(
            f"--n_desirable {n_desirable} --n_undesirable {n_undesirable}: no row is left; "
            f"keep some of a label that exists"
        )
    return dataset.select(rows.tolist())


def _count(wanted: float, available: int, where: str) -> int:
    if not math.isfinite(wanted) or wanted < 0:
        raise UserError(f"{where}: must be a ratio from 0 to 1 or a count above 1; correct it")
    if wanted <= 1:
        return max(round(wanted * available), 1) if wanted > 0 and available else 0
    if wanted != int(wanted):
        raise UserError(f"{where}: a count must be a whole number; correct it")
    if wanted > available:
        raise UserError(f"{where}: there are only {available} such rows; ask for at most that many")
    return int(wanted)


def _labels(dataset: Dataset) -> np.ndarray:
    if "label" not in dataset.column_names:
        raise UserError("the data set has no column 'label'; make it with unveil.data.unpaired_rows")
    return column(dataset, "label").to_numpy().astype(bool)


def _mean_of(lengths: np.ndarray | None, chosen: np.ndarray) -> float | None:
    return float(lengths[chosen].mean()) if lengths is not None and chosen.any() else None


def _mean(length: float | None) -> str:
    return "" if length is None else f" (mean length {length:.1f})"
