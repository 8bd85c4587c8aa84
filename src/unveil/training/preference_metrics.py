"""What a preference run logs: TRL's names, and beside them what the ELBO adds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unveil.objectives import KTO, Likelihoods, Objective, WeightedSum


@dataclass(frozen=True)
class Scored:
    """One response of the optimizer batch as gathered from all ranks; nats, summed over scored tokens."""

    example_id: int
    label: bool
    length: int
    policy: float
    reference: float
    margin_error: float


def likelihoods_of(records: Sequence[Scored], with_reference: bool = True) -> Likelihoods:
    """Columns `[m, 1]`, float64."""

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)[:, None]

    return Likelihoods(
        column([r.policy for r in records]),
        column([r.reference for r in records]) if with_reference else None,
        column([r.length for r in records]),
    )


def kto_term(objective: Objective) -> KTO | None:
    """The KTO inside an objective or a sum, if there is one."""
    if isinstance(objective, KTO):
        return objective
    if isinstance(objective, WeightedSum):
        return next((found for _, term in objective.terms if (found := kto_term(term))), None)
    return None


def preference_metrics(records: Sequence[Scored], objective: Objective) -> dict[str, float]:
    """Metrics of one optimizer batch (or evaluation set).

    `rewards/*` are beta times the margin, means over desirable (chosen) and undesirable (rejected) answers; `logps/*`
    are policy ELBOs; `saturation/*` the share of answers whose sigmoid argument lies beyond a size.
    """
    kto = kto_term(objective)
    beta = kto.beta if kto else 1.0
    margins = torch.tensor([r.policy - r.reference for r in records], dtype=torch.float64)
    desirable = torch.tensor([r.label for r in records])
    metrics: dict[str, float] = {}
    for name, chosen in (("chosen", desirable), ("rejected", ~desirable)):
        if chosen.any():
            metrics[f"rewards/{name}"] = beta * margins[chosen].mean().item()
            policy = [r.policy for r, keep in zip(records, chosen.tolist()) if keep]
            metrics[f"logps/{name}"] = sum(policy) / len(policy)
    if "rewards/chosen" in metrics and "rewards/rejected" in metrics:
        metrics["rewards/margins"] = metrics["rewards/chosen"] - metrics["rewards/rejected"]
    metrics["elbo/per_token"] = sum(r.policy for r in records) / sum(r.length for r in records)
    errors = [r.margin_error for r in records if math.isfinite(r.margin_error)]
    if errors:
        metrics["elbo/margin_standard_error"] = sum(errors) / len(errors)
    if kto:
        shift = kto.shift(margins[:, None]).item() if len(records) > 1 or kto.baseline == "zero" else 0.0
        argument = (beta * (margins - shift)).abs()
        metrics["baseline"] = shift
        metrics["saturation/mean_abs"] = argument.mean().item()
        for bound in (2, 6):
            metrics[f"saturation/above_{bound}"] = (argument > bound).double().mean().item()
    return metrics


def pair_accuracy(records: Sequence[Scored]) -> dict[str, float]:
    """Share of pairs (ids 2i chosen, 2i + 1 rejected) whose chosen answer has the larger margin; ties count half.

    Empty where the rows are not the halves of pairs.
    """
    margins = {r.example_id: r.policy - r.reference for r in records}
    chosen = [r.example_id for r in records if r.label and r.example_id % 2 == 0 and r.example_id + 1 in margins]
    if not chosen or 2 * len(chosen) != len(records):
        return {}
    wins = [(margins[i] > margins[i + 1]) + 0.5 * (margins[i] == margins[i + 1]) for i in chosen]
    return {"rewards/accuracies": sum(wins) / len(wins)}


def ranking_accuracy(records: Sequence[Scored]) -> dict[str, float]:
    """Area under the curve: how often a desirable answer has a larger margin than an undesirable one."""
    up = torch.tensor([r.policy - r.reference for r in records if r.label], dtype=torch.float64)
    down = torch.tensor([r.policy - r.reference for r in records if not r.label], dtype=torch.float64)
    if not len(up) or not len(down):
        return {}
    wins = (up[:, None] > down[None]).double() + 0.5 * (up[:, None] == down[None]).double()
    return {"rewards/auc": wins.mean().item()}
