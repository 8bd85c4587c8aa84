"""DisCO (arXiv 2505.12366): positives against negatives of one prompt, and the trust region that goes with it.

    Contrast      L = -mean_(i in P) s_i + tau log mean_(j in N) e^(s_j / tau)      tau = inf: plain mean (DisCO-b)
    TrustRegion   L = strength / 2 [KL(old || theta) - delta]_+^2

s is the per-token log-likelihood B_theta / L (unbiased under ELBO noise when tau = inf) or the per-token ratio
e^((B_theta - B_old) / L). A prompt without both labels has loss 0 and still counts in the mean over prompts.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unveil.objectives.algebra import Algebra
from unveil.objectives.interface import Feedback, Likelihoods, Reward, Shape, neutral
from unveil.objectives.listwise import NEVER
from unveil.objectives.pointwise import mean_over, weighted_mean
from unveil.objectives.rewards import LogRatio


@dataclass(frozen=True)
class Contrast(Algebra):
    """See the module. Gradient weights: -1/|P| on positives, softmax_N(s / tau) on negatives, times ds/dB."""

    reward: Reward
    tau: float = 10.0
    shape: Shape = "lists"

    splits_at_zero = True

    @property
    def needs_reference(self) -> bool:
        return self.reward.needs_reference

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        likelihoods, feedback = neutral(likelihoods, feedback)
        score, real = self.reward(likelihoods), feedback.real()
        positive, negative = real & (feedback.relevance > 0), real & (feedback.relevance <= 0)
        both = positive.any(dim=-1) & negative.any(dim=-1)
        if math.isinf(self.tau):
            hard = mean_over(negative, score)
        else:
            count = negative.sum(dim=-1).clamp(min=1).to(score.dtype)
            lse = torch.logsumexp((score / self.tau).masked_fill(~negative, NEVER), dim=-1)
            hard = self.tau * (lse - torch.log(count))
        return torch.where(both, hard - mean_over(positive, score), torch.zeros_like(hard))


@dataclass(frozen=True)
class TrustRegion(Algebra):
    """A penalty on leaving the old policy, given as the reference; the same number for every prompt of the batch.

    `Likelihoods.reference` holds the surrogates of the *old* policy, on the draws of the new one. Where the
    preference term has another reference, call the two objectives on two `Likelihoods` and add their weights.

    estimate:
        `k1` is mean (B_old - B_theta) / L, a difference of bounds that may be negative (the hinge copes);
        `k2` is mean ((B_old - B_theta) / L)^2 / 2, never negative, whose noise adds its variance.
    """

    delta: float = 1e-4
    strength: float = 1e3
    estimate: Literal["k1", "k2"] = "k1"
    shape: Shape = "unpaired"

    reward = LogRatio(1.0, per_token=True)
    needs_reference = True

    def divergence(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        """KL(old || theta) per token over the batch by the weights of its prompts, nats, a scalar with gradient."""
        likelihoods, feedback = neutral(likelihoods, feedback)
        gap = -self.reward(likelihoods)
        values = gap if self.estimate == "k1" else gap.square() / 2
        return weighted_mean(feedback.real() * feedback.counts()[..., None], values)

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        excess = (self.divergence(likelihoods, feedback) - self.delta).clamp(min=0)
        return (self.strength / 2 * excess.square()).expand(likelihoods.policy.shape[:-1])
