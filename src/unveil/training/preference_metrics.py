"""What a preference run logs: TRL's names, and beside them what the ELBO adds."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from unveil.diagnostics.variance_split import psi_of_standard_errors
from unveil.objectives import KTO, ExpectationOutside, Jackknife, Objective, WeightedSum, implicit_reward
from unveil.training.scored import Batch, Scored


def kto_term(objective: Objective) -> KTO | None:
    """The KTO inside an objective, a sum or what works draw by draw, if there is one."""
    if isinstance(objective, KTO):
        return objective
    if isinstance(objective, ExpectationOutside | Jackknife):
        return kto_term(objective.objective)
    if isinstance(objective, WeightedSum):
        return next((found for _, term in objective.terms if (found := kto_term(term))), None)
    return None


def averages_margins(objective: Objective) -> bool:
    """Whether the baseline is a mean over the optimizer batch: of one row it would be that row."""
    kto = kto_term(objective)
    return kto is not None and kto.averages_margins


def preference_metrics(records: Sequence[Scored], objective: Objective) -> dict[str, float]:
    """Metrics of one optimizer batch (or evaluation set).

    `rewards/*` are the objective's implicit rewards (beta times the margin, where there is a reference), means over
    liked (chosen, best) and other answers; `logps/*` are policy surrogates, nats; `saturation/*` tells how far the
    arguments of the loss's sigmoid are: those of KTO, else differences of rewards within prompts.
    """
    batch = Batch(records)
    with_reference = objective.needs_reference
    rewards = batch.per_answer(implicit_reward(objective, batch.likelihoods(with_reference, leads=False)))
    best = torch.tensor([r.best for r in records])
    metrics: dict[str, float] = {}
    for name, chosen in (("chosen", best), ("rejected", ~best)):
        if chosen.any():
            metrics[f"rewards/{name}"] = torch.tensor(rewards, dtype=torch.float64)[chosen].mean().item()
            policy = [r.policy for r, keep in zip(records, chosen.tolist()) if keep]
            metrics[f"logps/{name}"] = sum(policy) / len(policy)
    if "rewards/chosen" in metrics and "rewards/rejected" in metrics:
        metrics["rewards/margins"] = metrics["rewards/chosen"] - metrics["rewards/rejected"]
    metrics["elbo/per_token"] = sum(r.policy for r in records) / sum(r.length for r in records)
    if with_reference:
        errors = [r.margin_error for r in records if math.isfinite(r.margin_error)]
        if errors:
            metrics["elbo/margin_standard_error"] = sum(errors) / len(errors)
            metrics["elbo/psi"] = psi_of_standard_errors(np.array(errors)).psi
    return metrics | _saturation(batch, rewards, objective)


def _saturation(batch: Batch, rewards: list[float], objective: Objective) -> dict[str, float]:
    records, kto = batch.records, kto_term(objective)
    if kto is not None:
        margins = torch.tensor([r.margin for r in records], dtype=torch.float64)
        mismatched = batch.likelihoods().mismatched
        weight = torch.tensor([r.weight for r in records], dtype=torch.float64)
        shift = kto.shift(margins[:, None], None, mismatched, weight).item() if _has_shift(kto, records) else 0.0
        metrics, argument = {"baseline": shift}, kto.beta * (margins - shift)
    else:
        metrics, argument = {}, batch.gaps(rewards)
    if len(argument):
        argument = argument.abs()
        metrics["saturation/mean_abs"] = argument.mean().item()
        for bound in (2, 6):
            metrics[f"saturation/above_{bound}"] = (argument > bound).double().mean().item()
    return metrics


def _has_shift(kto: KTO, records: Sequence[Scored]) -> bool:
    return not kto.averages_margins or len(records) > 1


def pair_accuracy(records: Sequence[Scored]) -> dict[str, float]:
    """Share of comparisons (within prompts, or of pairs taken apart: ids 2i liked, 2i + 1 not) whose better answer has
    the larger margin; ties count half. Empty where nothing can be compared.
    """
    by_prompt: dict[object, list[Scored]] = {}
    for record in records:
        by_prompt.setdefault(record.group, []).append(record)
    if all(len(answers) == 1 for answers in by_prompt.values()):
        return _accuracy_of_halves(records)
    wins = [
        (a.margin > b.margin) + 0.5 * (a.margin == b.margin)
        for answers in by_prompt.values()
        for a in answers
        for b in answers
        if a.relevance > b.relevance
    ]
    return {"rewards/accuracies": sum(wins) / len(wins)} if wins else {}


def _accuracy_of_halves(records: Sequence[Scored]) -> dict[str, float]:
    """Data of several sources may hold an id more than once: the halves of a pair are met in the same order."""
    by_id: dict[int, list[Scored]] = {}
    for record in records:
        by_id.setdefault(record.example_id, []).append(record)
    halves = [
        (liked, other)
        for name, found in by_id.items()
        if name % 2 == 0
        for liked, other in zip(found, by_id.get(name + 1, ()))
        if liked.best
    ]
    if not halves or 2 * len(halves) != len(records):
        return {}
    wins = [(a.margin > b.margin) + 0.5 * (a.margin == b.margin) for a, b in halves]
    return {"rewards/accuracies": sum(wins) / len(wins)}


def ranking_accuracy(records: Sequence[Scored]) -> dict[str, float]:
    """Area under the curve: how often a liked answer has a larger margin than another one, over all prompts."""
    up = torch.tensor([r.margin for r in records if r.best], dtype=torch.float64)
    down = torch.tensor([r.margin for r in records if not r.best], dtype=torch.float64)
    if not len(up) or not len(down):
        return {}
    wins = (up[:, None] > down[None]).double() + 0.5 * (up[:, None] == down[None]).double()
    return {"rewards/auc": wins.mean().item()}
