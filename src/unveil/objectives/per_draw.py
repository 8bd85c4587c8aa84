"""What to do about the noise of the surrogates, given every draw: a leading axis of K draws with equal shares.

The mean over draws is unbiased for the surrogate, but a curved objective of the mean is not unbiased for the objective:
E l(z^) - l(z) = l''(z) Var(z^) / 2 to second order.

    plug-in               l(mean)                                        what every objective does by default
    jackknife             G l(mean) - (G-1) mean_g l(mean without g)     removes the bias of order 1/G
    expectation_outside   mean_k l(draw k)                               another objective: above l(z) if l is convex
    cross_fitted_weights  weight of a draw from the *other* draws        weight and gradient share no noise

Jackknife and cross-fitting need groups of draws that are independent and alike: `draws_per_group` says how many
draws share a mask size or a permutation. One draw of a mirrored pair tells of the other one, so that leaving it out, or
weighing it by the other, would not do what is promised; strata are not alike, so that a part of them has another mean.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unveil.errors import UserError
from unveil.objectives.algebra import Algebra, WeightedSum
from unveil.objectives.interface import Feedback, Likelihoods, Objective, Reward, Shape, State, total_loss, weights
from unveil.objectives.position_weights import PositionWeights


def _of_groups(draws_per_group: int) -> Callable[[Tensor], Tensor]:
    """`[D, ...]` to the means `[G, ...]` over consecutive draws that depend on one another."""
    return lambda value: value.reshape(-1, draws_per_group, *value.shape[1:]).mean(dim=1)


def _refuse_broken_groups(draws: int, draws_per_group: int, what: str, fewest: int = 2) -> None:
    if draws % draws_per_group or draws // draws_per_group < fewest:
        unit = "draws" if draws_per_group == 1 else f"groups of {draws_per_group} draws"
        raise UserError(
            f"--num_draws {draws}: {what} needs at least {fewest} {unit}; give {fewest * draws_per_group} or a multiple"
        )


def _on_draws(likelihoods: Likelihoods, combine: Callable[[Tensor], Tensor]) -> Likelihoods:
    """The likelihoods after `combine` has removed the leading axis of draws."""

    def apply(value: Tensor | None) -> Tensor | None:
        return None if value is None else combine(value)

    return likelihoods._replace(
        policy=combine(likelihoods.policy),
        reference=apply(likelihoods.reference),
        mismatched=apply(likelihoods.mismatched),
    )


@dataclass(frozen=True)
class _PerDraw(Algebra):
    """An objective of the draws, made of an objective of their mean."""

    objective: Objective

    @property
    def per_draw(self) -> bool:
        return True

    def __post_init__(self) -> None:
        if self.objective.per_draw:
            raise UserError("--objective: expectation_outside and jackknife do not nest; apply one of them")

    @property
    def needs_reference(self) -> bool:
        return self.objective.needs_reference

    @property
    def columns(self) -> tuple[str, ...]:
        return self.objective.columns

    @property
    def splits_at_zero(self) -> bool:  # type: ignore[override]
        return self.objective.splits_at_zero

    @property
    def shape(self) -> Shape:
        return self.objective.shape

    @property
    def reward(self) -> Reward:
        return self.objective.reward

    @property
    def position_weights(self) -> PositionWeights | None:  # type: ignore[override]
        return self.objective.position_weights

    def initial_state(self) -> State:
        return self.objective.initial_state()

    def update(self, state: State, likelihoods: Likelihoods, feedback: Feedback) -> State:
        return self.objective.update(state, likelihoods.mean_over_draws(), feedback)

    def given(self, state: State) -> "Objective":
        return replace(self, objective=self.objective.given(state))  # type: ignore[return-value]


@dataclass(frozen=True)
class ExpectationOutside(_PerDraw):
    """`mean_k objective(draw k)`."""

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        draws = range(likelihoods.policy.shape[0])
        losses = [self.objective(_on_draws(likelihoods, lambda v, k=k: v[k]), feedback) for k in draws]
        return torch.stack(losses).mean(dim=0)


@dataclass(frozen=True)
class Jackknife(_PerDraw):
    """`G objective(mean) - (G - 1) mean_g objective(mean without group g)`; a group is one draw, unless draws depend on
    one another.

    Its gradient weights are those of exactly this number; their variance is somewhat larger than the plug-in's, so it
    pays where beta times the standard error of the margin is above about 0.5.
    """

    draws_per_group: int = 1

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        _refuse_broken_groups(likelihoods.policy.shape[0], self.draws_per_group, "the jackknife")
        likelihoods = _on_draws(likelihoods, _of_groups(self.draws_per_group))
        groups = likelihoods.policy.shape[0]
        whole = self.objective(likelihoods.mean_over_draws(), feedback)
        without = [
            self.objective(_on_draws(likelihoods, lambda v, g=g: (v.sum(dim=0) - v[g]) / (groups - 1)), feedback)
            for g in range(groups)
        ]
        return groups * whole - (groups - 1) * torch.stack(without).mean(dim=0)


def jackknives_of(objective: Objective) -> list[Jackknife]:
    """Every jackknife inside an objective."""
    if isinstance(objective, WeightedSum):
        return [found for _, term in objective.terms for found in jackknives_of(term)]
    return [objective] if isinstance(objective, Jackknife) else []


def expectation_outside(objective: Objective) -> ExpectationOutside:
    """Move the expectation over draws outside of the link, as D2-DPO (arXiv 2503.08295) and Diffusion-DPO do.

    It has no bias from the number of draws, but another optimum: for a convex link it bounds the plug-in loss from
    above and pays for the variance of single draws. `policy` and `reference` need a leading axis `[D, ..., K]`;
    D2-DPO shares the noise level between chosen and rejected.
    """
    return ExpectationOutside(objective)


def jackknife(objective: Objective, draws_per_group: int = 1) -> Jackknife:
    """Remove the bias of order 1/G of the plug-in loss, for any objective; exact for squared links.

    `policy` and `reference` need a leading axis of draws `[D, ..., K]` of equal shares: at least two groups of
    `draws_per_group` consecutive draws, independent and alike. Strata are not: leaving one out leaves a hole, and the
    result is off by more than what it corrects. Objectives whose batch statistics are detached (KTO's baseline) are
    corrected as if the statistic were part of the loss.
    """
    return Jackknife(objective, draws_per_group)


def cross_fitted_weights(
    objective: Objective, likelihoods: Likelihoods, feedback: Feedback, folds: int = 2, draws_per_group: int = 1
) -> tuple[Tensor, Tensor]:
    """Weights of draws that are independent of the draws they weigh.

    Group g of draws belongs to fold g mod `folds`; the weight of its draws is that of the objective at the mean of the
    draws outside of its fold, over the number of draws. In the plug-in gradient weight and gradient share their noise,
    which biases it by their covariance (6 to 12 % where the loss saturates); here they do not, at the price of weights
    from fewer draws.

    Args:
        objective: one of the mean over draws, not `per_draw`.
        likelihoods: `policy` and `reference` with a leading axis of draws `[D, ..., K]`.
        folds: from 2 to the number of groups, which leaves one out at a time.
        draws_per_group: consecutive draws that depend on one another stay in one fold.

    Returns:
        the plug-in mean loss (scalar) and the weights `[D, ..., K]`.

    Raises:
        UserError: fewer groups of draws than folds.
    """
    draws = likelihoods.policy.shape[0]
    if objective.per_draw:
        raise UserError("--objective: cross-fitted weights are for objectives of the mean over draws; drop the other")
    _refuse_broken_groups(draws, draws_per_group, f"cross-fitting with {folds} folds", max(folds, 2))
    fold = torch.arange(draws, device=likelihoods.policy.device) // draws_per_group % folds
    gradient = torch.empty_like(likelihoods.policy)
    for number in range(folds):
        outside = fold != number
        _, slopes = weights(objective, _on_draws(likelihoods, lambda v, o=outside: v[o].mean(dim=0)), feedback)
        gradient[~outside] = slopes / draws
    with torch.no_grad():
        loss = total_loss(objective, likelihoods.mean_over_draws(), feedback)
    return loss, gradient
