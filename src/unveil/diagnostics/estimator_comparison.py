"""Ways to draw and combiners side by side: mean squared errors, their ratios to `iid`, bootstrap intervals.

Of one answer the squared error of an estimator is its variance over plans plus, where its mean is not known to be B,
its squared bias. The bias is against the pooled mean of all unbiased estimators (weighted by their precision); even
and odd replicates give it twice, independently, and the product of the two has no bias from noise (it may be negative
where there is none). Errors are summed over answers, so a ratio is that of the noise of `sum_i B_i`, of a batch's
margins, or of its gradient at fixed weights. Intervals resample answers, with the same resamples for all estimators.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from unveil.diagnostics.estimator_variance import Draws, Measured
from unveil.diagnostics.variance_split import Psi, psi_of_replicates
from unveil.errors import UserError
from unveil.likelihood.combiners import is_unbiased

RESAMPLES = 2000


class Ratio(NamedTuple):
    """A ratio of sums over answers with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        """`0.35 (0.31-0.40)`."""
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True)
class Estimator:
    """One way to draw under one combiner: squared errors per answer, `[N]` each, and what they come to."""

    draws: Draws
    combiner: str
    unbiased: bool
    forwards: float
    elbo_N: np.ndarray
    """Mean squared error of B, nats squared."""
    margin_N: np.ndarray
    gradient_N: np.ndarray | None
    """Mean squared error of the gradient of B, summed over its coordinates."""
    psi: Psi

    @property
    def name(self) -> str:
        """`quadratic_tiling`, or `quadratic_tiling, hajek`."""
        return self.draws.name + ("" if self.combiner == "ht" else f", {self.combiner}")


@dataclass(frozen=True)
class Comparison:
    """All estimators, measured on the same answers."""

    estimators: list[Estimator]
    resampled_BN: np.ndarray
    """How often each answer stands in each bootstrap sample."""

    @property
    def answers(self) -> int:
        """N."""
        return self.resampled_BN.shape[1]

    def find(self, design: str, num_draws: int, combiner: str = "ht") -> Estimator | None:
        """The plain estimator of a design (one mask per size, exponents as by default)."""
        wanted = Draws(design, num_draws)
        return next((e for e in self.estimators if e.draws == wanted and e.combiner == combiner), None)

    def iid(self, num_draws: int) -> Estimator:
        """What everything with as many forward passes is compared with."""
        found = self.find("iid", num_draws)
        if found is None:
            raise ValueError(f"iid with {num_draws} draws and the plain combiner was not measured")
        return found

    def ratio(self, one: np.ndarray, other: np.ndarray) -> Ratio:
        """Of two vectors of squared errors per answer."""
        if other.sum() == 0:
            raise UserError(
                "these answers: the estimate compared with does not vary at all, so that no ratio exists; give models "
                "that differ, and answers of more than one token"
            )
        low, high = np.percentile(self.resampled_BN @ one / (self.resampled_BN @ other), [2.5, 97.5])
        return Ratio(float(one.sum() / other.sum()), float(low), float(high))

    def product(self, one: Estimator, other: Estimator, compared: int = 1) -> Ratio:
        """Margin error times gradient error of one over those of another; of the margin alone without gradients.

        compared: how many were looked at to pick one; the interval is widened for all of them (Bonferroni).
        """
        parts = [(one.margin_N, other.margin_N)]
        if one.gradient_N is not None and other.gradient_N is not None:
            parts.append((one.gradient_N, other.gradient_N))
        values = [self.ratio(*part).value for part in parts]
        resampled = [self.resampled_BN @ a / (self.resampled_BN @ b) for a, b in parts]
        tail = 2.5 / compared
        low, high = np.percentile(np.prod(resampled, axis=0), [tail, 100 - tail])
        return Ratio(float(np.prod(values)), float(low), float(high))


def compare(measured: Sequence[Measured], seed: int = 0) -> Comparison:
    """Errors of everything measured; all of it on the same answers, in the same order."""
    unbiased = [(m, c) for m in measured for c, name in enumerate(m.combiners) if is_unbiased(m.draws.design, name)]
    elbo_N2 = _pooled([_halves(m.elbo_CNR[c]) for m, c in unbiased], [_variance(m.elbo_CNR[c]) for m, c in unbiased])
    margin_N2 = _pooled(
        [_halves(m.margin_CNR[c]) for m, c in unbiased], [_variance(m.margin_CNR[c]) for m, c in unbiased]
    )
    with_gradient = [(m.gradient, c) for m, c in unbiased if m.gradient]
    gradient_N2S = _pooled([g.sketch_CN2S[c] for g, c in with_gradient], [g.trace_CN[c] for g, c in with_gradient])
    estimators = []
    for m in measured:
        for c, combiner in enumerate(m.combiners):
            known = is_unbiased(m.draws.design, combiner)
            elbo_N = _variance(m.elbo_CNR[c]) + (0 if known else _squared_bias(_halves(m.elbo_CNR[c]), elbo_N2))
            margin_N = _variance(m.margin_CNR[c]) + (0 if known else _squared_bias(_halves(m.margin_CNR[c]), margin_N2))
            gradient_N = None
            if m.gradient:
                bias = 0 if known else _squared_bias(m.gradient.sketch_CN2S[c], gradient_N2S)
                gradient_N = m.gradient.trace_CN[c] + bias
            psi = psi_of_replicates(m.margin_CNR[c].T)
            estimators.append(Estimator(m.draws, combiner, known, m.forwards, elbo_N, margin_N, gradient_N, psi))
    answers = measured[0].elbo_CNR.shape[1]
    drawn = np.random.default_rng(seed).multinomial(answers, np.full(answers, 1 / answers), size=RESAMPLES)
    return Comparison(estimators, drawn.astype(np.float64))


def record(comparison: Comparison, estimator: Estimator) -> dict[str, Any]:
    """Plain numbers of one estimator, ready for JSON; ratios are to `iid` at equal forward passes."""
    iid = comparison.iid(estimator.draws.num_draws)
    found: dict[str, Any] = {
        **estimator.draws._asdict(),
        "name": estimator.draws.name,
        "combiner": estimator.combiner,
        "unbiased": estimator.unbiased,
        "forwards": estimator.forwards,
        "elbo_mse": float(estimator.elbo_N.mean()),
        "margin_mse": float(estimator.margin_N.mean()),
        "psi": estimator.psi._asdict(),
        "elbo_mse_over_iid": comparison.ratio(estimator.elbo_N, iid.elbo_N)._asdict(),
        "margin_mse_over_iid": comparison.ratio(estimator.margin_N, iid.margin_N)._asdict(),
    }
    if estimator.gradient_N is not None and iid.gradient_N is not None:
        found["gradient_mse"] = float(estimator.gradient_N.mean())
        found["gradient_mse_over_iid"] = comparison.ratio(estimator.gradient_N, iid.gradient_N)._asdict()
    return found


def _variance(values_NR: np.ndarray) -> np.ndarray:
    return values_NR.var(axis=1, ddof=1)


def _halves(values_NR: np.ndarray) -> np.ndarray:
    """Means of even and of odd replicates, `[N, 2, 1]`."""
    return np.stack([values_NR[:, half::2].mean(axis=1) for half in (0, 1)], axis=1)[..., None]


def _pooled(halves: Sequence[np.ndarray], variances: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of `[N, 2, S]` arrays, weighted by one over the mean variance; an exact one counts alone."""
    if not halves:
        return np.zeros(())
    mean = np.array([v.mean() for v in variances])
    weights = (mean == 0).astype(float) if (mean == 0).any() else 1 / mean
    return np.average(halves, axis=0, weights=weights)


def _squared_bias(halves_N2S: np.ndarray, truth_N2S: np.ndarray) -> np.ndarray:
    """Unbiased, `[N]`: the product of two independent differences."""
    even, odd = np.moveaxis(halves_N2S - truth_N2S, 1, 0)
    return (even * odd).sum(axis=-1)
