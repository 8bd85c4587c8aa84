"""What every objective is: a pure function of surrogate log-likelihoods and feedback.

The last axis holds the candidates of one prompt: K = 1 for thumbs, 2 for pairs, more for lists. An objective sees the
whole optimizer batch at once (all micro-batches, all ranks) and returns one loss per prompt; the trainer takes the
mean. It knows nothing of models, tokens or devices, so the two-pass trainer can ask autograd for one weight per
response and back-propagate the rest in any order.
"""

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from unveil.objectives.position_weights import PositionWeights

Shape = Literal["unpaired", "pairs", "lists"]
"""What an objective needs of the data: thumbs (K = 1 is enough), a better and a worse answer, or graded lists."""

State = tuple[float, ...]
"""What a stateful objective remembers between optimizer batches; empty for all others."""


class Likelihoods(NamedTuple):
    """What the models say, nats, summed over scored tokens; shapes `[..., K]`.

    Where an objective wants every draw (`per_draw`), `policy`, `reference` and `mismatched` have a leading axis of
    draws, each an estimate of the whole surrogate, all with equal shares; `length` has none.
    """

    policy: Tensor
    """Surrogate of log pi_theta(y | x): the only array with a gradient."""
    reference: Tensor | None = None
    """Surrogate under the reference, on the same draws; None for reference-free objectives."""
    length: Tensor | None = None
    """Number of scored tokens, for objectives that work per token."""
    mismatched: Tensor | None = None
    """B_policy - B_reference of answers put under other prompts, nats, `[m]`: `kto(baseline="trl_kl")`."""

    def margins(self) -> Tensor:
        """u = B_policy - B_reference, nats, `[..., K]`."""
        if self.reference is None:
            raise ValueError("this objective compares the policy with a reference; none was given")
        return self.policy - self.reference.detach()

    def tokens(self) -> Tensor:
        """Scored tokens, at least 1, `[..., K]`."""
        if self.length is None:
            raise ValueError("this objective works per token and needs the number of scored tokens")
        return self.length.to(self.policy.dtype).clamp(min=1)

    def mean_over_draws(self) -> "Likelihoods":
        """The surrogates that the draws of a leading axis estimate."""

        def mean(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.mean(dim=0)

        return self._replace(
            policy=self.policy.mean(dim=0), reference=mean(self.reference), mismatched=mean(self.mismatched)
        )


class Feedback(NamedTuple):
    """What the person said; shapes `[..., K]`, but for `weight`."""

    relevance: Tensor
    """Larger is better; 1 and 0 are thumbs up and down, or chosen and rejected."""
    mask: Tensor | None = None
    """False where a list is filled up; such places change neither value nor gradient."""
    rank: Tensor | None = None
    """Position at which an item was displayed, from 1 (IRPO)."""
    score: Tensor | None = None
    """What a separate scorer says, in its own units: a reward (MADPO, SmPO) or a difficulty (DA-DPO)."""
    weight: Tensor | None = None
    """What each prompt counts, shape `[...]`, at least 0: in its loss and in every statistic of the batch."""

    def counts(self) -> Tensor:
        """What each prompt counts, `[...]`; 1 each where no weights are given."""
        return torch.ones_like(self.relevance[..., 0]) if self.weight is None else self.weight

    def real(self) -> Tensor:
        """Boolean `[..., K]`: the candidates that exist."""
        return torch.ones_like(self.relevance, dtype=torch.bool) if self.mask is None else self.mask.bool()


class Reward(Protocol):
    """`[..., K]` likelihoods -> `[..., K]` rewards: what a candidate is worth to the policy."""

    def __call__(self, likelihoods: Likelihoods) -> Tensor: ...

    @property
    def needs_reference(self) -> bool: ...


@runtime_checkable
class Objective(Protocol):
    """A frozen dataclass that is called; hashable and without hidden state.

    `unveil.objectives.Algebra` gives an objective of your own sums, multiples and the answers of one without state; it
    is left with `__call__`, `reward`, `shape` and `needs_reference`.
    """

    def __call__(self, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
        """Loss per prompt, shape `[...]`."""
        ...

    def __add__(self, other: "Objective", /) -> "Objective": ...

    def __rmul__(self, factor: float, /) -> "Objective": ...

    @property
    def per_draw(self) -> bool:
        """Whether the likelihoods must have a leading axis of draws."""
        ...

    @property
    def position_weights(self) -> PositionWeights | None:
        """How the tokens of a response are weighted inside its surrogate; None: all alike."""
        ...

    @property
    def needs_reference(self) -> bool:
        """Whether `likelihoods.reference` must be given."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """What the feedback must hold: `relevance`, and of `rank`, `score`, `position_weights` what it cannot do
        without."""
        ...

    @property
    def splits_at_zero(self) -> bool:
        """Whether an answer counts as liked where its relevance is above 0, so that grades have to be cut there."""
        ...

    @property
    def shape(self) -> Shape:
        """The data it takes."""
        ...

    @property
    def reward(self) -> Reward:
        """The reward that it is made of; what `implicit_reward` returns."""
        ...

    def initial_state(self) -> State:
        """What it remembers before the first batch; `()` if nothing."""
        ...

    def update(self, state: State, likelihoods: Likelihoods, feedback: Feedback) -> State:
        """The state after seeing a batch. Call it before `given`, as the published code does."""
        ...

    def given(self, state: State) -> "Objective":
        """The objective of this batch: the plain function that the state describes."""
        ...


def neutral(likelihoods: Likelihoods, feedback: Feedback) -> tuple[Likelihoods, Feedback]:
    """Both with harmless numbers where the mask is False, and the dtype of the policy throughout.

    Whatever filled up a list, NaN included, is replaced before any arithmetic, so that it reaches neither value nor
    gradient.
    """
    real, dtype = feedback.real(), likelihoods.policy.dtype

    def kept(value: Tensor | None, fill: float = 0.0) -> Tensor | None:
        return None if value is None else torch.where(real, value, torch.full_like(value, fill))

    def column(value: Tensor | None, fill: float = 0.0) -> Tensor | None:
        return None if value is None else kept(value.detach().to(dtype), fill)

    policy, relevance = kept(likelihoods.policy), column(feedback.relevance)
    assert policy is not None
    assert relevance is not None
    clean = likelihoods._replace(
        policy=policy, reference=column(likelihoods.reference), length=column(likelihoods.length, 1.0)
    )
    weight = None if feedback.weight is None else feedback.weight.detach().to(dtype)
    return clean, Feedback(relevance, real, column(feedback.rank, 1.0), column(feedback.score), weight)


def total_loss(objective: Objective, likelihoods: Likelihoods, feedback: Feedback) -> Tensor:
    """Mean over prompts of weight times objective: the number that training minimises.

    The mean is over the number of prompts: a prompt of weight 2 pulls as hard as the prompt twice.
    """
    losses = objective(likelihoods, feedback)
    return losses.mean() if feedback.weight is None else (feedback.weight.to(losses.dtype) * losses).mean()


def weights(objective: Objective, likelihoods: Likelihoods, feedback: Feedback) -> tuple[Tensor, Tensor]:
    """Loss and its gradient with respect to every policy surrogate.

    Returns:
        the mean loss (scalar) and `g = d loss / d likelihoods.policy`, `[..., K]` (with the leading axis of draws if
        there is one). Everything the model sees of the objective is `sum g * grad B_theta`; g < 0 means that a step
        raises that surrogate.
    """
    policy = likelihoods.policy.detach().requires_grad_(True)
    with torch.enable_grad():
        loss = total_loss(objective, likelihoods._replace(policy=policy), feedback)
        if not loss.requires_grad:
            return loss.detach(), torch.zeros_like(policy)
        (gradient,) = torch.autograd.grad(loss, policy, allow_unused=True)
    return loss.detach(), torch.zeros_like(policy) if gradient is None else gradient


def implicit_reward(objective: Objective, likelihoods: Likelihoods) -> Tensor:
    """The reward `[..., K]` that the objective reads off the policy: for accuracy, margins and best-of-N re-ranking.

    beta (B_theta - B_ref) for the DPO family, per-token log-likelihoods for SimPO, log-odds for ORPO. A weighted sum
    has the reward of its first term.
    """
    return objective.reward(likelihoods)
