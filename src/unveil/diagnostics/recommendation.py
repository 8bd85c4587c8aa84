"""What the measured variances recommend: a design, a combiner, and the exponent of the strata."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from unveil.diagnostics.estimator_comparison import Comparison, Estimator, Ratio
from unveil.diagnostics.estimator_variance import Draws, Strata
from unveil.draws import DESIGNS
from unveil.draws.sizes import importance, power_strata

DEFAULT_DESIGN = "quadratic_tiling"
_EXPONENTS = (1.0, 3.0)
# A bootstrap over fewer answers gives intervals that are much too narrow.
FEWEST_ANSWERS = 10


@dataclass(frozen=True)
class Recommendation:
    """The estimator to use, and how sure that is."""

    best: Estimator
    """Smallest margin error times gradient error among the unbiased."""
    rival: Estimator | None
    """The default design, or, where that is the best itself, the next one."""
    over_rival: Ratio | None
    """Product of errors of the best over those of the rival; the interval allows for the best having been picked."""
    answers: int

    @property
    def certain(self) -> bool:
        """Whether the interval leaves the best one the best."""
        return self.over_rival is not None and self.over_rival.high < 1 and self.answers >= FEWEST_ANSWERS

    @property
    def chosen(self) -> Estimator:
        """The best; the default where the data cannot tell them apart."""
        default_is_rival = self.rival is not None and _is_default(self.rival)
        return self.rival if default_is_rival and not self.certain and self.rival else self.best

    def text(self) -> str:
        """One or two sentences."""
        what = "margin variance x gradient variance" if self.best.gradient_N is not None else "margin variance"
        use = f"Use {flags(self.chosen)}"
        if self.rival is None or self.over_rival is None:
            return f"{use}: nothing else that is unbiased was measured."
        value = f"{self.over_rival.value:.2f} times that of {self.rival.name} ({_interval(self.over_rival)})"
        if self.answers < FEWEST_ANSWERS:
            return f"{use}; {self.answers} answers are too few to tell designs apart, --max_samples 20 would do."
        if self.certain:
            return f"{use}: its {what} is {value}, the smallest of the unbiased estimators."
        if self.chosen is self.best:
            return f"{use}: its {what} is the smallest of the unbiased ones, though within the interval: {value}."
        return (
            f"{use}, the default: {self.best.name} was smallest in {what}, but within the interval ({value}), so "
            "that no difference is shown."
        )

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "flags": flags(self.chosen),
            "best": self.best.name,
            "rival": self.rival.name if self.rival else None,
            "best_over_rival": self.over_rival._asdict() if self.over_rival else None,
            "certain": self.certain,
            "text": self.text(),
        }


def recommend(comparison: Comparison, num_draws: int) -> Recommendation:
    """The best unbiased estimator of `num_draws` forward passes against the default, or against the next one."""
    exact = [e for e in comparison.estimators if e.unbiased and e.draws.num_draws == num_draws]
    iid = comparison.iid(num_draws)
    ranked = sorted(exact, key=lambda e: comparison.product(e, iid).value)
    best = ranked[0]
    default = comparison.find(DEFAULT_DESIGN, num_draws)
    rival = default if default is not None and default is not best else next(iter(ranked[1:]), None)
    over_rival = comparison.product(best, rival, len(ranked)) if rival else None
    return Recommendation(best, rival, over_rival, comparison.answers)


def flags(estimator: Estimator) -> str:
    """The flags of `unveil train` that ask for it."""
    draws, law = estimator.draws, DESIGNS[estimator.draws.design].sizes
    words = [f"--draw_design {draws.design} --num_draws {draws.num_draws}"]
    if draws.masks_per_size > 1:
        words.append(f"--masks_per_size {draws.masks_per_size}")
    if law is power_strata and draws.strata_exponent != 2.0:
        words.append(f"--strata_exponent {draws.strata_exponent:g}")
    if law is importance:
        words.append(f"--size_exponent {draws.size_exponent:g}")
    if estimator.combiner != "ht":
        words.append(f"--combiner {estimator.combiner}")
    return " ".join(words)


def fall_with_size(ratio_K: np.ndarray, variance_K: np.ndarray) -> float:
    """a of V(u) ~ u^-a: minus the slope of log variance over log mask ratio, each stratum counting the same."""
    usable = variance_K > 0
    if usable.sum() < 2:
        return 0.0
    x, y = np.log(ratio_K[usable]), np.log(variance_K[usable])
    return float(-np.polyfit(x, y, 1)[0])


def strata_exponent(fall: float) -> float:
    """p for strata [(k/n)^p, ((k+1)/n)^p): widths go like u^((p-1)/p) and should go like 1 / sd = u^(a/2) (Neyman), so
    p = 2 / (2 - a). From 1 (equal strata) to 3, in quarters."""
    low, high = _EXPONENTS
    wanted = 2 / (2 - fall) if fall < 2 else high
    return round(4 * min(max(wanted, low), high)) / 4


def exponent_advice(strata: Strata) -> dict[str, Any]:
    """How fast the variance falls with the mask ratio, and the exponent that fits, for margin and gradient."""
    found: dict[str, Any] = {"margin_fall": fall_with_size(strata.ratio_K, strata.margin_K)}
    falls = [found["margin_fall"]]
    if strata.gradient_K is not None:
        found["gradient_fall"] = fall_with_size(strata.ratio_K, strata.gradient_K)
        falls.append(found["gradient_fall"])
    found["exponents"] = [strata_exponent(fall) for fall in falls]
    found["strata_exponent"] = strata_exponent(float(np.mean(falls)))
    names = [f"{name} variance of a draw falls like u^-{fall:.2f}" for name, fall in zip(("margin", "gradient"), falls)]
    found["text"] = (
        f"With the mask ratio u, the {' and the '.join(names)}: this suggests "
        f"--strata_exponent {found['strata_exponent']:g}."
    )
    return found


def _is_default(estimator: Estimator) -> bool:
    return estimator.draws == Draws(DEFAULT_DESIGN, estimator.draws.num_draws) and estimator.combiner == "ht"


def _interval(ratio: Ratio) -> str:
    return f"{ratio.low:.2f} to {ratio.high:.2f}"
