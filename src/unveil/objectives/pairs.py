"""Which pairs of a prompt's candidates are compared, how much each counts, and how strongly it is believed.

Every slot returns `[..., K, K]`, first index the better candidate; none carries a gradient.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unveil.errors import UserError
from unveil.objectives.interface import Feedback

Which = Literal["all", "best_worst", "best_versus_rest"]
MAX_GRADE = 30.0


@dataclass(frozen=True)
class Pairs:
    """1 where candidate i is better than j, by relevance; ties and places filled up say nothing.

    which:
        `all` pairs, the `best_worst` one, or the `best_versus_rest`; equal bests or worsts share.
    mean:
        divide by the number of pairs, so that the loss of a list has the size of one pair's.
    """

    which: Which = "all"
    mean: bool = True

    def __call__(self, feedback: Feedback) -> Tensor:
        relevance, real = feedback.relevance, feedback.real()
        better = (relevance[..., :, None] > relevance[..., None, :]) & real[..., :, None] & real[..., None, :]
        if self.which != "all":
            highest = relevance.masked_fill(~real, -math.inf).amax(dim=-1, keepdim=True)
            better = better & (relevance == highest)[..., :, None]
        if self.which == "best_worst":
            lowest = relevance.masked_fill(~real, math.inf).amin(dim=-1, keepdim=True)
            better = better & (relevance == lowest)[..., None, :]
        chosen = better.to(relevance.dtype)
        return chosen / chosen.sum(dim=(-2, -1), keepdim=True).clamp(min=1) if self.mean else chosen


PairSlot = Callable[[Feedback, Tensor], Tensor]
"""(feedback, rewards `[..., K]` detached) -> `[..., K, K]`: a weight, or a factor on the argument z."""


def differences(values: Tensor) -> Tensor:
    """v_i - v_j, `[..., K, K]`."""
    return values[..., :, None] - values[..., None, :]


def scores(feedback: Feedback, objective: str) -> Tensor:
    """The scorer's column, or an error that names the objective wanting it."""
    if feedback.score is None:
        raise UserError(f"--objective {objective}: needs a score of every answer; add the column `scores` to the data")
    return feedback.score.detach()


def gains(relevance: Tensor) -> Tensor:
    """2^v - 1, the gain of ranking measures."""
    if relevance.numel() and relevance.max() > MAX_GRADE:
        raise UserError(
            f"relevance {relevance.max().item():g}: the gain 2^relevance is meant for grades of at most {MAX_GRADE:g}; "
            "rescale the scores, for example to [0, 1]"
        )
    return torch.exp2(relevance) - 1


def average_ranks(keys: tuple[Tensor, ...], real: Tensor) -> Tensor:
    """Rank from 1 by the first key, largest first; later keys break ties, and full ties share their mean rank."""
    ahead = torch.zeros_like(differences(keys[0]), dtype=torch.bool)
    tied = torch.ones_like(ahead)
    for key in keys:
        ahead = ahead | (tied & (differences(key) < 0))
        tied = tied & (differences(key) == 0)
    before = (ahead.to(keys[0].dtype) + 0.5 * tied.to(keys[0].dtype)) * real[..., None, :].to(keys[0].dtype)
    return before.sum(dim=-1) + 0.5  # i is tied with itself


@dataclass(frozen=True)
class DCG:
    """|G_i - G_j| |1/D(rank_i) - 1/D(rank_j)|, G = 2^v - 1, D = log(1 + rank): what a swap costs.

    ranks:
        by `relevance` (RankDPO) or by the current `reward` (LiPO-lambda, Tree-PO). Equal rewards are ranked by
        relevance: at the start of training all rewards are 0, and shared ranks would give every pair the weight 0.
    """

    ranks: Literal["relevance", "reward"] = "relevance"

    def __call__(self, feedback: Feedback, reward: Tensor) -> Tensor:
        relevance = feedback.relevance
        keys = (relevance,) if self.ranks == "relevance" else (reward, relevance)
        discount = 1 / torch.log1p(average_ranks(keys, feedback.real()).clamp(min=1))
        return differences(gains(relevance)).abs() * differences(discount).abs()


@dataclass(frozen=True)
class MarginAdaptive:
    """MADPO's weight of a pair with the scorer's margin h (arXiv 2510.05342).

    omega = sigma(c h) / sigma(h) for h > -threshold and 1 beyond, with
    c = c_min + (c_max - c_min) / (1 + (c_max - 1) / (1 - c_min) e^(rate (|h| - threshold))).
    Under Bradley-Terry labels the loss is least at z = c(|h|) h.
    """

    c_max: float
    c_min: float
    rate: float
    threshold: float

    def amplification(self, size: Tensor) -> Tensor:
        """c at margins of the given size: c_max at ease, 1 at the threshold, c_min far beyond."""
        if self.c_max == self.c_min:
            return torch.full_like(size, self.c_max)
        odds = math.log(self.c_max - 1) if self.c_max > 1 else -math.inf
        odds -= math.log(1 - self.c_min) if self.c_min < 1 else -math.inf
        return self.c_min + (self.c_max - self.c_min) * torch.sigmoid(-odds - self.rate * (size - self.threshold))

    def __call__(self, feedback: Feedback, reward: Tensor) -> Tensor:
        margin = differences(scores(feedback, "madpo"))
        log_weight = torch.nn.functional.logsigmoid(self.amplification(margin.abs()) * margin)
        log_weight = log_weight - torch.nn.functional.logsigmoid(margin)
        return torch.where(margin > -self.threshold, log_weight.exp(), torch.ones_like(margin))


@dataclass(frozen=True)
class DifficultyGap:
    """scale (1 + |d_i - d_j|), d the scorer's difficulty: DA-DPO's factor on beta (arXiv 2601.00623)."""

    scale: float

    def __call__(self, feedback: Feedback, reward: Tensor) -> Tensor:
        return self.scale * (1 + differences(scores(feedback, "da_dpo")).abs())


@dataclass(frozen=True)
class SoftPreference:
    """gamma (2 p - 1), p = sigma((score_i - score_j) / temperature): SmPO's factor on beta (arXiv 2506.02698).

    trust:
        `scorer`: a negative factor turns the pair round, so the scorer overrides the label, as published;
        `label`: where the scorer disagrees the factor is 0 and the pair teaches nothing.
    """

    gamma: float
    temperature: float
    trust: Literal["scorer", "label"]

    def __call__(self, feedback: Feedback, reward: Tensor) -> Tensor:
        factor = self.gamma * torch.tanh(differences(scores(feedback, "soft_dpo")) / (2 * self.temperature))
        return factor if self.trust == "scorer" else factor.clamp(min=0)


SCORED = (MarginAdaptive, DifficultyGap, SoftPreference)
"""The slots that read a separate scorer's numbers."""
