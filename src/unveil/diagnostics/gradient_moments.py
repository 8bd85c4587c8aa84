"""How much the gradient of B varies: running moments of whole gradients, without keeping any of them.

Of one answer, g = grad B under one plan; over plans, trace = E |g - E g|^2, the variance of the gradient summed over
all coordinates. Plans of different answers are independent, so the trace of a batch's `sum_i w_i grad B_i` at fixed
weights is `sum_i w_i^2 trace_i`. The squared bias of a biased estimator, |E g - truth|^2, needs E g: it is kept as the
mean of a sketch (random signs, then sums over every S-th coordinate), which keeps inner products on average, once for
the even and once for the odd replicates, so that their product has no bias from noise.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unveil.draws import Plan
from unveil.errors import UserError
from unveil.likelihood import Response, Row, build_rows, hidden_log_probs, micro_batches, token_weights
from unveil.models import Denoiser

PlanOf = Callable[[int, Response, int], Plan]
"""(seed, response, epoch) -> plan."""


class GradientRequest(NamedTuple):
    """Which gradients are measured."""

    replicates: int
    """Plans per answer, epochs 0 on; at least 2."""
    parameters: tuple[str, ...] = ()
    """Only parameters whose name contains one of these; () for all."""
    by_stratum: bool = False
    """Also the gradient of each draw of designs with strata."""
    sketch: int = 512


class GradientMoments(NamedTuple):
    """Of C combiners on N answers; squared norms are in nats squared per squared unit of the parameters."""

    trace_CN: np.ndarray
    """E |g - E g|^2, unbiased."""
    sketch_CN2S: np.ndarray
    """Sketches of the mean gradient of even and of odd replicates."""

    @classmethod
    def of(cls, answers: Sequence["GradientMoments"]) -> "GradientMoments":
        """Put single answers (N = 1) side by side."""
        return cls(*(np.concatenate(column, axis=1) for column in zip(*answers)))


class Sketch:
    """A fixed random linear map to S numbers with E <sketch(a), sketch(b)> = <a, b>."""

    def __init__(self, parameters: Sequence[nn.Parameter], size: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.size = size
        self.signs = [
            (torch.randint(0, 2, (p.numel(),), generator=generator, dtype=torch.int8) * 2 - 1).to(p.device)
            for p in parameters
        ]

    def __call__(self, gradient: Sequence[Tensor]) -> np.ndarray:
        """float64 `[S]`."""
        total = torch.zeros(self.size, dtype=torch.float64)
        for part, sign in zip(gradient, self.signs, strict=True):
            signed = part.flatten() * sign
            padded = nn.functional.pad(signed, (0, -len(signed) % self.size))
            total += padded.view(-1, self.size).sum(0).double().cpu()
        return total.numpy()


class RunningMoments:
    """Mean vector and trace of the covariance of gradients seen one at a time (Welford)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: list[Tensor] = []
        self._squares = 0.0

    def add(self, gradient: Sequence[Tensor]) -> None:
        """One more; float32 or wider."""
        self.count += 1
        if self.count == 1:
            self._mean = [part.clone() for part in gradient]
            return
        for mean, part in zip(self._mean, gradient, strict=True):
            difference = part - mean
            self._squares += float(difference.square().sum(dtype=torch.float64)) * (self.count - 1) / self.count
            mean.add_(difference, alpha=1 / self.count)

    @property
    def trace(self) -> float:
        """Unbiased; of at least 2 gradients."""
        return self._squares / (self.count - 1)


def chosen_parameters(
    model: nn.Module, names: Sequence[str], flag: str = "--gradient_parameters"
) -> list[nn.Parameter]:
    """The parameters whose name contains one of `names`, all of them for ().

    Raises:
        UserError: a name that no parameter's name contains.
    """
    known = dict(model.named_parameters())
    for name in names:
        if not any(name in parameter for parameter in known):
            raise UserError(f"{flag} {name}: in no parameter's name; names look like {list(known)[len(known) // 2]}")
    return [p for parameter, p in known.items() if not names or any(name in parameter for name in names)]


def measure_gradient(
    policy: Denoiser,
    response: Response,
    plan_of: PlanOf,
    combiners: Sequence[str],
    seed: int,
    asked: GradientRequest,
    tokens_per_batch: int,
) -> GradientMoments:
    """Moments of the gradient of one answer's B under each combiner, N = 1; combiners share the forward passes."""
    parameters = chosen_parameters(policy.model, asked.parameters)
    sketch = Sketch(parameters, asked.sketch)
    moments = [RunningMoments() for _ in combiners]
    halves = np.zeros((len(combiners), 1, 2, asked.sketch))
    with _only(policy.model, parameters):
        for epoch in range(asked.replicates):
            drawn = plan_of(seed, response, epoch)
            rows = build_rows([response], [drawn], policy.mask_token_id)
            weights = [token_weights(drawn, response.length, combiner) for combiner in combiners]
            for c, gradient in enumerate(gradients(policy, rows, weights, parameters, tokens_per_batch)):
                moments[c].add(gradient)
                halves[c, 0, epoch % 2] += sketch(gradient)
    halves[:, :, 0] /= (asked.replicates + 1) // 2
    halves[:, :, 1] /= asked.replicates // 2
    return GradientMoments(np.array([[m.trace] for m in moments]), halves)


def stratum_traces(
    policy: Denoiser, response: Response, plan_of: PlanOf, seed: int, asked: GradientRequest, tokens_per_batch: int
) -> np.ndarray:
    """Trace of the gradient of (L / l) S(M) of each draw over the replicates, `[K]`."""
    parameters = chosen_parameters(policy.model, asked.parameters)
    moments: list[RunningMoments] = []
    with _only(policy.model, parameters):
        for epoch in range(asked.replicates):
            drawn = plan_of(seed, response, epoch)
            rows = build_rows([response], [drawn], policy.mask_token_id)
            moments = moments or [RunningMoments() for _ in rows]
            for row, running in zip(rows, moments):
                weight = [np.full(len(row.places), response.length / len(row.places))]
                running.add(gradients(policy, [row], [weight], parameters, tokens_per_batch)[0])
    return np.array([running.trace for running in moments])


def gradients(
    policy: Denoiser,
    rows: Sequence[Row],
    weightings: Sequence[Sequence[np.ndarray]],
    parameters: Sequence[nn.Parameter],
    tokens_per_batch: int,
) -> list[list[Tensor]]:
    """Gradient of `sum_k sum_i w_k[i] log p_k[i]` for each weighting (one array per row), float32 or wider."""
    found: list[list[Tensor]] = [[] for _ in weightings]
    for packed in micro_batches(rows, tokens_per_batch, policy.device):
        log_p_N = hidden_log_probs(policy, packed)
        for number, weights in enumerate(weightings):
            total = (packed.in_stream(weights).to(log_p_N) * log_p_N).sum()
            keep = number + 1 < len(weightings)
            parts = torch.autograd.grad(total, parameters, retain_graph=keep, allow_unused=True, materialize_grads=True)
            wide = [part.float() if part.dtype in (torch.float16, torch.bfloat16) else part for part in parts]
            found[number] = [a + b for a, b in zip(found[number], wide)] if found[number] else wide
    return found


@contextmanager
def _only(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Inside, gradients are on for these parameters alone."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    wanted = {id(parameter) for parameter in parameters}
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in wanted)
    try:
        yield
    finally:
        for parameter, on in before:
            parameter.requires_grad_(on)
