"""How far a step's gradient and margins are from the truth: the published 8 draws against ours, on a trained model.

Model: the shipped base, and a policy some KTO steps away from it (made here, with our step). Examples: held-out thumbs
of the demo's reviews. For every example the gradient of B and the margin r = B_policy - B_base are computed many times,
with fresh draws each time (policy and base share them), and compared with 256 draws of the same example. Both
estimators are compared on unpadded rows, so that only the draws differ.

    gradient_variance_ratio = sum over examples E |g_ours - g_256|^2 / the same of the published draws
    margin_variance_ratio   = sum over examples E (r_ours - r_256)^2 / the same of the published draws

Intervals: bootstrap over replicates within examples, 95 %. They do not cover the choice of examples, of model or of
the policy's distance from its base; the ratios depend on the length of the answers, so they are also given for the
shorter and the longer half of the examples.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring import progress
from benchmarks.our_step import Schedule, plans_of, prepare, two_pass, values
from benchmarks.pair_training import shipped_base
from benchmarks.proportional import Batch
from unveil.demo.reviews import feedback_rows
from unveil.likelihood import Response, row_values, score
from unveil.models import Denoiser

BIG_PACK = 2048
CONTEXT = 128
# Epochs number the replicates; the reference draws take one that no replicate has.
REFERENCE_EPOCH = 1_000_000


@dataclass(frozen=True)
class Pair:
    """A trained policy, the base that it came from, and held-out rated answers."""

    policy: Denoiser
    base: Denoiser
    held_out: Batch


@dataclass(frozen=True)
class Errors:
    """Squared errors `[examples, replicates]` of gradient and margin, and squared norms `[examples]` of the truth."""

    gradient: np.ndarray
    margin: np.ndarray
    gradient_norm: np.ndarray

    @property
    def relative_gradient_error(self) -> float:
        """Root mean squared error over the root mean squared norm."""
        return float(np.sqrt(self.gradient.mean() / self.gradient_norm.mean()))

    @property
    def margin_sd(self) -> float:
        """Root mean squared error of the margin, nats."""
        return float(np.sqrt(self.margin.mean()))


def reviews(split: str, count: int, tokenizer: Any, seed: int) -> Batch:
    """Random rated reviews of a split of the demo, half of them liked, of every length that the context holds."""
    rng = np.random.default_rng(seed)
    rows = feedback_rows(split)
    found: dict[bool, list[Response]] = {True: [], False: []}
    for number in rng.permutation(len(rows)):
        row = rows[number]
        prompt, answer = (tokenizer(row[name])["input_ids"] for name in ("prompt", "completion"))
        if len(prompt) + len(answer) <= CONTEXT and len(found[row["label"]]) < count // 2:
            found[row["label"]].append(Response(int(number), prompt, answer))
    liked, disliked = found[True], found[False]
    return Batch([*liked, *disliked], [True] * len(liked) + [False] * len(disliked))


def trained_pair(steps: int, batch_size: int, num_examples: int) -> Pair:
    """The shipped base, and a copy after `steps` KTO steps (AdamW, learning rate 5e-4, 2 draws)."""
    loaded = shipped_base()
    base, model = loaded.denoiser, copy.deepcopy(loaded.model)
    policy = Denoiser(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.01)
    for step in range(steps):
        batch = reviews("feedback", batch_size, loaded.tokenizer, step)
        prepared = prepare(policy, batch, Schedule(2, "quadratic_tiling", 2048), epoch=step)
        loss = two_pass(policy, prepared, values(base, prepared), kept_tokens=2048)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            progress(f"policy: KTO step {step}, loss {loss:.3f}")
    return Pair(policy, base, reviews("report", num_examples, loaded.tokenizer, 0))


def gradient(policy: Denoiser, response: Response, schedule: Schedule, epoch: int) -> Tensor:
    """Estimated gradient of B of one response, all parameters in one vector."""
    prepared = prepare(policy, Batch([response], [True]), schedule, epoch)
    weights = torch.from_numpy(prepared.plans[0].weights)
    policy.model.zero_grad()
    for packed in prepared.packed:
        sums_R = row_values(policy, packed)
        (weights[packed.order].to(sums_R) * sums_R).sum().backward()
    return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])


def margins(pair: Pair, response: Response, schedule: Schedule, epochs: Sequence[int]) -> np.ndarray:
    """Estimated margins of one response, one for every epoch; policy and base share the draws."""
    batch = Batch([response] * len(epochs), [True] * len(epochs))
    plans = plans_of(batch, schedule, epochs)
    both = [score(denoiser, batch.responses, plans, BIG_PACK).values for denoiser in (pair.policy, pair.base)]
    return (both[0] - both[1]).double().numpy()


def measure_errors(
    pair: Pair,
    schedules: Sequence[Schedule],
    reference_draws: int,
    gradient_replicates: int,
    margin_replicates: int,
) -> list[Errors]:
    """Errors of every schedule against a reference of many draws of each example."""
    many = Schedule(reference_draws, "quadratic_tiling", BIG_PACK)
    found: list[list[tuple]] = [[] for _ in schedules]
    for number, response in enumerate(pair.held_out.responses):
        truth = gradient(pair.policy, response, many, REFERENCE_EPOCH)
        true_margin = margins(pair, response, many, [REFERENCE_EPOCH])
        for errors, schedule in zip(found, schedules):
            gradients = (gradient(pair.policy, response, schedule, 1 + r) for r in range(gradient_replicates))
            squares = [float((g - truth).square().sum()) for g in gradients]
            own = margins(pair, response, schedule, range(1, 1 + margin_replicates))
            errors.append((squares, (own - true_margin) ** 2, float(truth.square().sum())))
        progress(f"errors: example {number + 1}/{len(pair.held_out.responses)}, {response.length} scored tokens")
    return [Errors(*(np.array(column) for column in zip(*errors))) for errors in found]


def ratio_with_interval(ours: np.ndarray, theirs: np.ndarray, resamples: int = 1000) -> tuple[float, float, float]:
    """Ratio of mean squared errors `[examples, replicates]`, and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)

    def means(errors: np.ndarray) -> np.ndarray:
        chosen = rng.integers(0, errors.shape[1], (resamples, *errors.shape))
        return np.take_along_axis(errors[None], chosen, axis=2).mean(axis=(1, 2))

    low, high = np.percentile(means(ours) / means(theirs), [2.5, 97.5])
    return float(ours.mean() / theirs.mean()), float(low), float(high)
