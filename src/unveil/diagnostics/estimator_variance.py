"""How much an estimate of B and of the margin r varies: repeated plans of the same answers, scored on shared draws.

For every answer i and every way to draw, R plans are drawn (their epochs are 0..R-1), the policy and the reference
are asked for the log-probabilities of the hidden tokens of all of them, and every combiner turns these into B and into
r = B_policy - B_reference. The combiners of one way to draw share its forward passes; ways to draw share the hashes
of the same (seed, answer, epoch), so their comparison is paired. Nothing is kept but R numbers per answer, moments of
the gradients (`unveil.diagnostics.gradient_moments`) and what the single draws say of sizes and strata.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from unveil.diagnostics.gradient_moments import GradientMoments, GradientRequest, measure_gradient, stratum_traces
from unveil.diagnostics.variance_split import Split, split_variance, stratum_variance
from unveil.draws import DESIGNS, Plan, plan
from unveil.draws.sizes import importance, power_strata
from unveil.errors import UserError
from unveil.likelihood import DEFAULT_TOKENS_PER_BATCH, Response, build_rows, hidden_log_probs, micro_batches
from unveil.likelihood.combiners import check_combiner, token_weights
from unveil.models import Denoiser


class Draws(NamedTuple):
    """A way to draw: the arguments of `unveil.draws.plan` that are no name of an example."""

    design: str
    num_draws: int
    masks_per_size: int = 1
    strata_exponent: float = 2.0
    size_exponent: float = 0.5

    @property
    def name(self) -> str:
        """The design with what sets it apart from its default: `iid 4x2`, `quadratic p=1.5`."""
        law = DESIGNS[self.design].sizes
        if self.masks_per_size > 1:
            return f"{self.design} {self.num_draws // self.masks_per_size}x{self.masks_per_size}"
        if law is power_strata and self.strata_exponent != 2.0:
            return f"{self.design} p={self.strata_exponent:g}"
        return f"{self.design} a={self.size_exponent:g}" if law is importance else self.design

    def plan(self, seed: int, response: Response, epoch: int) -> Plan:
        """Replicate `epoch` of the draws of one answer."""
        return plan(
            seed, response.example_id, epoch, response.length, self.num_draws, self.design, self.masks_per_size,
            self.strata_exponent, self.size_exponent,
        )  # fmt: skip


class Strata(NamedTuple):
    """What single draws vary by, stratum by stratum, mean over answers, each `[K]`."""

    ratio_K: np.ndarray
    """Mean mask ratio l / L."""
    elbo_K: np.ndarray
    """Variance of (L / l) S(M), nats squared."""
    margin_K: np.ndarray
    gradient_K: np.ndarray | None
    """Trace of the covariance of its gradient, where gradients were measured."""


@dataclass(frozen=True)
class Measured:
    """One way to draw under C combiners on N answers with R replicates."""

    draws: Draws
    combiners: tuple[str, ...]
    forwards: float
    """Mean number of forward passes of a plan (`coupled` leaves empty sides out)."""
    elbo_CNR: np.ndarray
    margin_CNR: np.ndarray
    split: tuple[Split, Split] | None = None
    """V_t and V_y of one draw's B and of its margin, mean over answers; with at least 2 masks per size."""
    strata: Strata | None = None
    gradient: GradientMoments | None = None


def measure(
    policy: Denoiser,
    reference: Denoiser,
    responses: Sequence[Response],
    draws: Draws,
    combiners: Sequence[str],
    replicates: int,
    seed: int = 0,
    gradient: GradientRequest | None = None,
    tokens_per_batch: int = DEFAULT_TOKENS_PER_BATCH,
    advance: Callable[[int], None] = lambda count: None,
) -> Measured:
    """Measure one way to draw.

    Args:
        policy, reference: models in evaluation mode that read the same ids.
        responses: N answers with different `example_id`.
        draws: the way to draw.
        combiners: keys of `unveil.likelihood.COMBINERS` that it can serve.
        replicates: R plans per answer, at least 2.
        seed: of the draws.
        gradient: also measure gradients of the policy's B, as it says.
        tokens_per_batch: tokens of one forward pass; changes nothing beyond rounding.
        advance: told after each answer how many forward passes of a whole plan that was (replicates of both models,
            and of the gradient).

    Raises:
        UserError: a log-probability is not finite.
    """
    elbo_CNR = np.empty((len(combiners), len(responses), replicates))
    margin_CNR = np.empty_like(elbo_CNR)
    splits, strata, moments, forwards = [], [], [], 0
    for i, response in enumerate(responses):
        plans = [draws.plan(seed, response, epoch) for epoch in range(replicates)]
        forwards += sum(len(p.positions) for p in plans)
        log_p, log_q = (
            log_probs(model, response, plans, tokens_per_batch, name)
            for model, name in ((policy, "the model"), (reference, "the reference"))
        )
        for c, combiner in enumerate(combiners):
            for r, (drawn, p, q) in enumerate(zip(plans, log_p, log_q)):
                weights = np.concatenate(token_weights(drawn, response.length, combiner))
                elbo_CNR[c, i, r], margin_CNR[c, i, r] = weights @ p, weights @ (p - q)
        if draws.masks_per_size > 1:
            splits.append(_splits(draws, plans, log_p, log_q))
        if has_strata(draws):
            strata.append(_strata(plans, log_p, log_q, response.length))
        if gradient:
            moments.append(measure_gradient(policy, response, draws.plan, combiners, seed, gradient, tokens_per_batch))
            if has_strata(draws) and gradient.by_stratum:
                traces = stratum_traces(policy, response, draws.plan, seed, gradient, tokens_per_batch)
                strata[-1] = (*strata[-1], traces)
        advance(2 * replicates + (gradient.replicates if gradient else 0))
    return Measured(
        draws,
        tuple(combiners),
        forwards / (len(responses) * replicates),
        elbo_CNR,
        margin_CNR,
        _mean_splits(splits),
        _mean_strata(strata),
        GradientMoments.of(moments) if moments else None,
    )


def has_strata(draws: Draws) -> bool:
    """Whether draw k always means the same stratum of sizes, drawn once."""
    known = DESIGNS[draws.design]
    return known.units == "strata" and known.draws_per_unit == 1 and known.unbiased and draws.masks_per_size == 1


def log_probs(
    denoiser: Denoiser, response: Response, plans: Sequence[Plan], tokens_per_batch: int, name: str = "the model"
) -> list[np.ndarray]:
    """log p of every hidden token of every plan of one answer, nats: per plan one float64 array, draw after draw."""
    rows = build_rows([response] * len(plans), plans, denoiser.mask_token_id)
    tokens: list[np.ndarray] = [np.empty(0)] * len(rows)
    with torch.no_grad():
        for packed in micro_batches(rows, tokens_per_batch, denoiser.device):
            found = hidden_log_probs(denoiser, packed).double().cpu()
            for row, part in zip(packed.order, found.split(packed.hidden_counts)):
                tokens[row] = part.numpy()
    ends = np.cumsum([len(p.positions) for p in plans])
    per_plan = [np.concatenate(tokens[end - len(p.positions) : end]) for p, end in zip(plans, ends)]
    if not all(np.isfinite(values).all() for values in per_plan):
        raise UserError(
            f"example {response.example_id}: {name} gives a log-probability that is not a finite number; check the "
            "checkpoint, and try --dtype float32"
        )
    return per_plan


def _per_draw(plans: Sequence[Plan], log_p: Sequence[np.ndarray]) -> np.ndarray:
    """(L / l) S(M) of every draw of every replicate, `[R, K]`."""
    starts = [np.cumsum([0, *(len(hidden) for hidden in p.positions[:-1])]) for p in plans]
    sums = np.array([np.add.reduceat(values, start) for values, start in zip(log_p, starts)])
    return sums * np.array([p.weights / p.shares for p in plans])


def _splits(
    draws: Draws, plans: Sequence[Plan], log_p: Sequence[np.ndarray], log_q: Sequence[np.ndarray]
) -> tuple[Split, Split]:
    """Groups of all replicates are alike: one analysis of variance of R n_t groups."""
    elbo = _per_draw(plans, log_p).reshape(-1, draws.masks_per_size)
    return split_variance(elbo), split_variance(elbo - _per_draw(plans, log_q).reshape(elbo.shape))


def _mean_splits(splits: Sequence[tuple[Split, Split]]) -> tuple[Split, Split] | None:
    if not splits:
        return None
    mean = np.mean(splits, axis=0)
    return Split(*mean[0].tolist()), Split(*mean[1].tolist())


def _strata(
    plans: Sequence[Plan], log_p: Sequence[np.ndarray], log_q: Sequence[np.ndarray], length: int
) -> tuple[np.ndarray, ...]:
    ratio = np.mean([[len(hidden) / length for hidden in p.positions] for p in plans], axis=0)
    elbo = _per_draw(plans, log_p)
    return ratio, stratum_variance(elbo), stratum_variance(elbo - _per_draw(plans, log_q))


def _mean_strata(strata: Sequence[tuple[np.ndarray, ...]]) -> Strata | None:
    if not strata:
        return None
    means = [np.mean(column, axis=0) for column in zip(*strata)]
    return Strata(means[0], means[1], means[2], means[3] if len(means) == 4 else None)


def ways_to_draw(
    designs: Sequence[str], num_draws: int, strata_exponents: Sequence[float] = (2.0,), size_exponent: float = 0.5
) -> list[Draws]:
    """`iid` first, then every design with every exponent it takes; `iid` with two masks per size (for the split into
    V_t and V_y) where the number of draws allows."""
    found = [Draws("iid", num_draws)]
    if num_draws >= 4 and num_draws % 2 == 0:
        found.append(Draws("iid", num_draws, masks_per_size=2))
    for design in designs:
        law = DESIGNS[design].sizes
        exponents = strata_exponents if law is power_strata else (2.0,)
        own = size_exponent if law is importance else 0.5
        found += [Draws(design, num_draws, 1, exponent, own) for exponent in exponents]
    return list(dict.fromkeys(found))


def all_designs(num_draws: int) -> list[str]:
    """Every design that can serve so many draws."""
    return [n for n, d in DESIGNS.items() if d.draws_per_unit and num_draws % d.draws_per_unit == 0]


def served(combiners: Sequence[str], draws: Draws) -> list[str]:
    """The combiners that a way to draw can serve; `ht` is always measured."""
    found = ["ht"]
    for combiner in combiners:
        try:
            check_combiner(combiner, draws.design, draws.num_draws, draws.masks_per_size)
        except UserError:
            continue
        found.append(combiner)
    return list(dict.fromkeys(found))
