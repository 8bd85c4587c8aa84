"""How much of a benchmark's result is the luck of the draws.

lm-eval's standard error is about the documents: another sample of questions. The ELBO of an option has an error of its
own, about the draws. A question is answered with the option of the largest (length-normalised) value, so that draws
matter where the first two are close: with a margin d between them and a standard error s = sqrt(s1^2 + s2^2) of it (the
draws of two options are independent) the decision is within its error when d < s. The share of such decisions is told
beside the accuracy, and the standard error over draws of the accuracy itself,

    sqrt( sum_i q_i (1 - q_i) ) / n,    q_i = Phi(margin of the right option over the best other / its error).

Exact values (single tokens, every subset) have s = 0 and add nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from unveil.evaluation.likelihoods import Estimate


@dataclass(frozen=True)
class Decision:
    """A question: values of its options with their standard errors (None: unknown), and the right one if known."""

    values: tuple[float, ...]
    errors: tuple[float | None, ...]
    right: int | None = None

    def margin(self) -> tuple[float, float | None]:
        """First over second option, and the standard error of that."""
        order = sorted(range(len(self.values)), key=lambda i: -self.values[i])
        return self._between(order[0], order[1])

    def chance_of_right(self) -> float | None:
        """Probability, over new draws, that the right option comes out first; None where that cannot be told."""
        if self.right is None:
            return None
        others = [i for i in range(len(self.values)) if i != self.right]
        margin, error = self._between(self.right, max(others, key=lambda i: self.values[i]))
        if error is None:
            return None
        if error == 0:
            return float(margin > 0)
        return NormalDist().cdf(margin / error)

    def _between(self, one: int, other: int) -> tuple[float, float | None]:
        errors = self.errors[one], self.errors[other]
        margin = self.values[one] - self.values[other]
        return margin, None if None in errors else math.hypot(*errors)  # type: ignore[arg-type]


def decisions_summary(decisions: Sequence[Decision]) -> dict[str, Any]:
    """`within_error`: share of decisions whose margin is below its standard error (None: errors unknown);
    `standard_error`: of the accuracy, over draws."""
    margins = [decision.margin() for decision in decisions if len(decision.values) > 1]
    chances = [decision.chance_of_right() for decision in decisions if len(decision.values) > 1]
    known = all(error is not None for _, error in margins)
    rated = [chance for chance in chances if chance is not None]
    return {
        "decisions": len(margins),
        "within_error": sum(m < e for m, e in margins if e is not None) / len(margins) if margins and known else None,
        "standard_error": (
            math.sqrt(sum(q * (1 - q) for q in rated)) / len(rated) if rated and len(rated) == len(chances) else None
        ),
        "exact": known and all(error == 0 for _, error in margins),
    }


def decisions_of(
    task: Any, samples: Sequence[Mapping[str, Any]], estimates: Mapping[Any, Estimate], normalised: bool
) -> list[Decision]:
    """The questions of a multiple-choice task as lm-eval decided them: by log-likelihood (`acc`), or divided by the
    characters of the option (`acc_norm`)."""
    decisions = []
    for sample in samples:
        found = []
        while (task.task_name, sample["doc_id"], len(found)) in estimates:
            found.append(estimates[(task.task_name, sample["doc_id"], len(found))])
        choices = task.doc_to_choice(sample["doc"])
        found = found[: len(choices)]  # what follows are unconditional ones, for acc_mutual_info
        lengths = [float(len(choice)) or 1.0 for choice in choices] if normalised else [1.0] * len(found)
        target = sample["target"]
        right = target if isinstance(target, int) and not isinstance(target, bool) else None
        decisions.append(
            Decision(
                tuple(e.value / length for e, length in zip(found, lengths)),
                tuple(
                    None if e.standard_error is None else e.standard_error / length for e, length in zip(found, lengths)
                ),
                right if right is not None and 0 <= right < len(found) else None,
            )
        )
    return decisions


def likelihood_summary(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Mean ELBO of a task's targets, nats, with its standard error over draws, and per token."""
    errors = [estimate.standard_error for estimate in estimates]
    tokens = sum(estimate.tokens for estimate in estimates)
    value = math.fsum(estimate.value for estimate in estimates)
    known = None not in errors
    error = math.sqrt(math.fsum(e * e for e in errors if e is not None)) if known else None
    return {
        "requests": len(estimates),
        "tokens": tokens,
        "forwards": sum(estimate.forwards for estimate in estimates),
        "mean": value / len(estimates),
        "mean_standard_error": None if error is None else error / len(estimates),
        "per_token": value / max(tokens, 1),
        "per_token_standard_error": None if error is None else error / max(tokens, 1),
    }
