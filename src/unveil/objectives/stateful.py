"""The two objectives with a memory: BCO's running shift and beta-DPO's running statistics.

Both are frozen. What they remember is a tuple of numbers that the trainer carries (and puts into checkpoints):

    state = objective.initial_state()
    per optimizer batch:  state = objective.update(state, likelihoods, feedback)
                          loss, g = weights(objective.given(state), likelihoods, feedback)

Called without a state they see one batch as if it were the first.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unveil.objectives.algebra import Algebra
from unveil.objectives.interface import Feedback, Likelihoods, Shape, State, neutral
from unveil.objectives.links import Logistic
from unveil.objectives.pairs import Pairs
from unveil.objectives.pairwise import Pairwise
from unveil.objectives.pointwise import Pointwise, weighted_mean
from unveil.objectives.rewards import LogRatio


@dataclass(frozen=True)
class BCO(Algebra):
    """`softplus(-(r - delta))` of liked and `softplus(r - delta)` of disliked answers, r = beta u.

    state = (mean of all rewards seen, their total weight): delta is that mean, detached.
    """

    beta: float = 0.1
    state: State | None = None
    shape: Shape = "unpaired"

    splits_at_zero = True
    needs_reference = True

    @property
    def reward(self) -> LogRatio:
        return LogRatio(self.beta)

    def initial_state(self) -> State:
        return (0.0, 0.0)

    def update(self, state: State, likelihoods: Likelihoods, feedback: Feedback) -> State:
        mean, seen = state
        likelihoods, feedback = neutral(likelihoods, feedback)
        counts = (feedback.real() * feedback.counts()[..., None]).double()
        rewards = self.reward(likelihoods).detach().double()
        new = counts.sum().item()
        total = seen + new
        return (mean + ((counts * rewards).sum().item() - new * mean) / total, total) if new else state

    def given(self, state: State) -> "BCO":
        return replace(self, state=state)

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        state = self.update(self.initial_state(), likelihoods, feedback) if self.state is None else self.state
        return Pointwise(self.reward, Logistic(), shift=state[0], class_means=True)(likelihoods, feedback)


@dataclass(frozen=True)
class BetaDPO(Algebra):
    """DPO with one beta per batch and a filter against outliers, from the gaps D = u_w - u_l (best minus worst).

    M, S = running mean and deviation of D (decay 0.9, first batch taken as it is)
    keep   a share `keep` of the pairs, drawn without replacement with probability ~ exp(-(D - M)^2 / 2 S^2)
    beta'  = max(0.001, beta (1 + a (mean of kept D - M)))
    L      = softplus(-beta' D) of kept pairs over their share, so that the mean over prompts is the mean over kept

    D is the raw gap, not multiplied by beta. state = (M, S, batches seen); the draw is a function of seed and the
    number of batches, the same on every rank.
    """

    beta: float = 0.1
    a: float = 0.6
    keep: float = 0.8
    decay: float = 0.9
    seed: int = 0
    state: State | None = None
    shape: Shape = "pairs"

    needs_reference = True

    @property
    def reward(self) -> LogRatio:
        return LogRatio(self.beta)

    def initial_state(self) -> State:
        return (0.0, 0.0, 0.0)

    def update(self, state: State, likelihoods: Likelihoods, feedback: Feedback) -> State:
        gaps, paired = self._gaps(likelihoods, feedback)
        found, counts = gaps[paired].double(), feedback.counts()[paired].double()
        if not found.numel():
            return state
        mean = weighted_mean(counts, found)
        spread = weighted_mean(counts, (found - mean).square()) * len(found) / max(len(found) - 1, 1)
        mean, deviation = mean.item(), spread.sqrt().item()
        old_mean, old_deviation, batches = state
        decay = self.decay if batches else 0.0
        return (decay * old_mean + (1 - decay) * mean, decay * old_deviation + (1 - decay) * deviation, batches + 1)

    def given(self, state: State) -> "BetaDPO":
        return replace(self, state=state)

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        state = self.update(self.initial_state(), likelihoods, feedback) if self.state is None else self.state
        gaps, paired = self._gaps(likelihoods, feedback)
        kept = self._kept(gaps, paired, state)
        counts = feedback.counts().to(gaps.dtype)
        beta = self.batch_beta(gaps, kept, state, counts)
        share = (counts * kept).sum() / (counts * paired).sum() if kept.any() else 1.0
        losses = Pairwise(LogRatio(beta), pairs=Pairs("best_worst"))(likelihoods, feedback)
        return losses * kept.to(losses.dtype) / share

    def batch_beta(self, gaps: Tensor, kept: Tensor, state: State, counts: Tensor) -> float:
        """beta' of the batch; the plain beta where no pair was kept."""
        if not kept.any():
            return self.beta
        mean = weighted_mean(counts[kept], gaps[kept]).item()
        return max(1e-3, self.beta * (1 + self.a * (mean - state[0])))

    def _gaps(self, likelihoods: Likelihoods, feedback: Feedback) -> tuple[Tensor, Tensor]:
        """D of every prompt, detached `[...]`, and whether it has a better and a worse answer and any weight."""
        likelihoods, feedback = neutral(likelihoods, feedback)
        margins, pairs = likelihoods.margins().detach(), Pairs("best_worst")(feedback)
        gaps = (pairs * (margins[..., :, None] - margins[..., None, :])).sum(dim=(-2, -1))
        return gaps, (pairs.sum(dim=(-2, -1)) > 0) & (feedback.counts() > 0)

    def _kept(self, gaps: Tensor, paired: Tensor, state: State) -> Tensor:
        """Boolean `[...]`: the largest log-weights plus Gumbel noise are a weighted draw without replacement."""
        count = max(1, math.floor(self.keep * int(paired.sum()) + 1e-9))
        if not paired.any() or count == int(paired.sum()):
            return paired
        mean, deviation, batches = state
        log_weight = -0.5 * ((gaps - mean) / max(deviation, 1e-8)).square()
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + int(batches))
        noise = -torch.log(-torch.log(torch.rand(gaps.shape, generator=generator, dtype=torch.float64).clamp(1e-12)))
        keys = (log_weight.double().cpu() + noise).masked_fill(~paired.cpu(), -math.inf).flatten()
        kept = torch.zeros_like(keys, dtype=torch.bool)
        kept[keys.topk(count).indices] = True
        return kept.view(gaps.shape).to(paired.device)
