"""Pass 1 of one device batch: surrogates of every answer under policy and reference, with their standard errors."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unveil.draws import Plan
from unveil.errors import UserError
from unveil.likelihood import Combined, Response, Surrogates, combine, eubo, holder, mixture, standard_error
from unveil.likelihood.combiners import error_draws
from unveil.objectives import Objective
from unveil.objectives.per_draw import jackknives_of
from unveil.training.config import PreferenceConfig
from unveil.training.flop_count import work_of_parts
from unveil.training.micro_batch import MicroBatch
from unveil.training.other_prompts import moved, needs_mismatched
from unveil.training.reference import in_row_order, row_sums_of
from unveil.training.scored import Scored
from unveil.training.shared_trainer import EVALUATION_EPOCH

if TYPE_CHECKING:
    from unveil.training.preference_trainer import PreferenceTrainer


def refuse_unequal_shares(objective: Objective, args: PreferenceConfig) -> None:
    """What works draw by draw needs draws of equal shares; a jackknife, independent ones.

    Raises:
        UserError: the design's draws have other shares or depend on one another, or there is only one draw.
    """
    if objective.per_draw and args.debias == "cross_fit":
        raise UserError(
            f"--debias cross_fit: --objective {args.objective} works draw by draw itself; leave out --debias"
        )
    if not objective.per_draw:
        return
    what = "--debias jackknife" if args.debias == "jackknife" else f"--objective {args.objective}"
    if args.draw_design not in ("iid", "stratified", "systematic", "mirrored", "mirrored_stratified"):
        raise UserError(
            f"{what}: looks at single draws, and those of --draw_design {args.draw_design} stand for unequal shares; "
            "give --draw_design iid or stratified"
        )
    if args.num_draws < 2:
        raise UserError(f"{what}: needs at least 2 draws; raise --num_draws")
    for found in jackknives_of(objective):
        args.refuse_dependent_draws(what)
        if found.draws_per_group != args.draws_per_group:
            raise UserError(
                f"{what}: its jackknife leaves out {found.draws_per_group} draws at a time, and {args.draws_per_group} "
                f"depend on one another (--draw_design {args.draw_design}, --masks_per_size {args.masks_per_size}); "
                f"give jackknife(..., draws_per_group={args.draws_per_group})"
            )


def refuse_what_only_linear_surrogates_have(
    objective: Objective, args: PreferenceConfig, columns: Sequence[str]
) -> None:
    """Surrogates of answers that are pushed down take the plan's own weights of tokens.

    Raises:
        UserError: the objective or the data weigh tokens.
    """
    if args.negative_surrogate != "elbo" and (objective.position_weights or "position_weights" in columns):
        raise UserError(
            f"--negative_surrogate {args.negative_surrogate}: tokens are weighed here (by --objective "
            f"{args.objective} or the data), which only --negative_surrogate elbo knows"
        )


class FirstPass:
    """Scores one device batch; leaves on it what pass 2 needs."""

    def __init__(self, trainer: "PreferenceTrainer", batch: MicroBatch, epoch: int) -> None:
        self.trainer, self.batch = trainer, batch
        self.args, self.reference, self.epoch = trainer.args, trainer.reference, epoch
        self.keys = [(response.example_id, epoch) for response in batch.responses]

    def records(self, number: int) -> list[Scored]:
        """One record per answer; `number` is that of the device batch in the optimizer batch."""
        batch, args = self.batch, self.args
        # The reference goes first: no graph is alive yet.
        reference_log_p = None if self.reference is None else self.reference.log_probs(batch, self.keys)
        policy_log_p = self.trainer.first_pass(batch)
        self._count(batch)
        policy_sums = row_sums_of(batch, policy_log_p)
        reference_sums = policy_sums if reference_log_p is None else row_sums_of(batch, reference_log_p)
        policy, reference = combine(policy_sums, batch.plans), combine(reference_sums, batch.plans)
        batch.seen = policy.values.clone()
        errors = self._errors(policy_log_p, reference_log_p, policy, reference)
        values, others = policy.values.tolist(), reference.values.tolist()
        if args.negative_surrogate != "elbo":
            self._replace_pushed_down(values, policy_log_p, others, reference_log_p)
        mismatched = self._mismatched()
        by_draw = self.trainer._by_draw
        answers = self._answers()
        return [
            Scored(
                example_id=response.example_id,
                group=(args.process_index, number, group),
                relevance=answers[i]["relevance"],
                best=answers[i]["best"],
                length=batch.lengths[i],
                policy=values[i],
                reference=others[i],
                margin_error=errors[i],
                rank=answers[i]["rank"],
                score=answers[i]["score"],
                policy_draws=tuple(policy.per_draw[i].tolist()) if by_draw else (),
                reference_draws=tuple(reference.per_draw[i].tolist()) if by_draw else (),
                mismatched=mismatched[i] if mismatched else None,
                weight=float(batch.rows[group].get("weight", 1.0)),
                lead=float(batch.rows[group].get("margin", 0.0)),
            )
            for i, (response, group) in enumerate(zip(batch.responses, batch.groups))
        ]

    def _errors(
        self,
        policy_log_p: Sequence[torch.Tensor],
        reference_log_p: Sequence[torch.Tensor] | None,
        policy: Surrogates,
        reference: Surrogates,
    ) -> list[float]:
        """Standard errors of the margins, nats; infinite where the draws do not tell."""
        batch, combiner = self.batch, self.args.combiner
        if combiner == "ht":
            draws = [p - r for p, r in zip(policy.per_draw, reference.per_draw)]
            return [float(standard_error(d, plan)) for d, plan in zip(draws, batch.plans)]
        if reference_log_p is None:
            return [0.0] * len(batch.plans)
        mine, theirs = _by_answer(batch, policy_log_p), _by_answer(batch, reference_log_p)
        found = []
        for i, (plan, response) in enumerate(zip(batch.plans, batch.responses)):
            margins = [a - b for a, b in zip(mine[i], theirs[i])]
            by_place = batch.position_weights[i] if batch.position_weights else None
            if by_place is not None:
                margins = [m * np.asarray(by_place)[hidden] for m, hidden in zip(margins, plan.positions)]
            draws = error_draws(plan, response.length, combiner, margins)
            found.append(math.inf if draws is None else float(standard_error(torch.from_numpy(draws), plan)))
        return found

    def _count(self, batch: MicroBatch) -> None:
        """Every row went through the policy, and through the reference where that is a network."""
        work = work_of_parts(batch.packed)
        networks = [self.trainer.flop_count]
        if self.reference is not None and self.reference.live:
            networks.append(self.trainer.reference_flop_count)
        flops = sum(network.forward(work) for network in networks)
        self.trainer.count(forwards=len(networks) * batch.num_rows, flops=flops)

    def _answers(self) -> list[dict[str, Any]]:
        """Feedback on each answer, in the order of the answers."""
        found = []
        for row in self.batch.rows:
            if "responses" not in row:
                up = bool(row["label"])
                found.append({"relevance": float(up), "best": up, "rank": None, "score": None})
                continue
            relevance = row["relevance"]
            top = max(relevance)
            ranks, scores = (row.get(name) or [None] * len(relevance) for name in ("rank", "score"))
            found += [
                {"relevance": float(v), "best": v == top and v > min(relevance), "rank": rank, "score": score}
                for v, rank, score in zip(relevance, ranks, scores)
            ]
        return found

    # -- answers that are pushed down -------------------------------------------------------------------------------

    def _replace_pushed_down(
        self,
        values: list[float],
        policy_log_p: Sequence[torch.Tensor],
        others: list[float],
        reference_log_p: Sequence[torch.Tensor] | None,
    ) -> None:
        """Their surrogate is another one, for policy and reference alike; pass 2 takes its slopes as token weights."""
        batch = self.batch
        mine = _by_answer(batch, policy_log_p)
        theirs = None if reference_log_p is None else _by_answer(batch, reference_log_p)
        starts = np.cumsum([0, *batch.draws_per_answer])
        weights = list(batch._all_token_weights())
        for i, answer in enumerate(self._answers()):
            if answer["best"] or (answer["relevance"] > 0 and "responses" not in batch.rows[batch.groups[i]]):
                continue
            plan, response = batch.plans[i], batch.responses[i]
            found = self._upper(mine[i], plan, response)
            values[i] = found.value
            others[i] = found.value if theirs is None else self._upper(theirs[i], plan, response).value
            for row, slope, whole in zip(range(starts[i], starts[i + 1]), found.token_weights, plan.weights):
                weights[row] = slope / whole
            batch.seen[i] = torch.nan  # pass 2 sums its slopes, which are not this surrogate
        batch.token_weights = weights

    def _upper(self, log_p: list[np.ndarray], plan: Plan, response: Response) -> Combined:
        power, length = self.args.eubo_power, response.length
        if self.args.negative_surrogate == "eubo":
            return eubo(log_p, plan, length, power)
        return (
            holder(log_p, plan, length)
            if self.args.negative_surrogate == "holder"
            else mixture(log_p, plan, length, power)
        )

    # -- TRL's KL estimate ------------------------------------------------------------------------------------------

    def _mismatched(self) -> list[float] | None:
        """r of each answer under another prompt, nats; no gradient."""
        if not needs_mismatched(self.trainer.objective) or self.reference is None:
            return None
        trainer, others = self.trainer, self.trainer.other_prompts[self.epoch == EVALUATION_EPOCH]
        rows = moved(self.batch.responses, others, trainer.denoiser.max_length)
        batch = trainer.prepare(rows, self.epoch)
        trainer.even_out([batch])
        keys = [(response.example_id, self.epoch) for response in batch.responses]
        reference = combine(row_sums_of(batch, self.reference.log_probs(batch, keys)), batch.plans).values
        policy = combine(row_sums_of(batch, trainer.without_graph(batch)), batch.plans).values
        self._count(batch)
        return (policy - reference).tolist()


def _by_answer(batch: MicroBatch, log_p: Sequence[torch.Tensor]) -> list[list[np.ndarray]]:
    """log p of the hidden tokens, answer by answer and draw by draw, aligned with the plans' positions."""
    rows = [part.double().numpy() for part in in_row_order(batch, log_p)]
    found, start = [], 0
    for count in batch.draws_per_answer:
        found.append(rows[start : start + count])
        start += count
    return found
