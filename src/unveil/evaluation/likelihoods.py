"""log p(continuation | context) for benchmarks: the Monte-Carlo ELBO with its standard error, exact where cheap.

A single token hidden is scored exactly by one forward (LLaDA, arXiv 2502.09992, does the same for such targets), and
requests that differ in that token only, the options of a question, share the forward. Longer targets are scored by
`num_draws` draws of the plan, or by every subset where there are no more of those.

The draws of a request follow from its tokens, not from its place: other companions, another order, a limit or a resumed
run ask the same questions of the model.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from unveil.draws import Plan, plan
from unveil.errors import UserError
from unveil.evaluation.settings import ModelSettings
from unveil.generation import GenerationConfig, generate
from unveil.likelihood import Response, build_rows, combine, degrees_of_freedom, micro_batches, row_values_without_graph
from unveil.likelihood.canonical import canonical_row_sums
from unveil.models import Denoiser

_MOST_EXACT_TOKENS = 12


class Target(NamedTuple):
    """What is scored: `completion_ids` given `prompt_ids`; at least one token."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


class Estimate(NamedTuple):
    """An ELBO in nats, summed over `tokens`; its standard error over draws (0 = exact, None = one draw says nothing of
    it); forwards spent (0 where another request paid); whether greedy decoding gives the target (None = not asked)."""

    value: float
    standard_error: float | None
    tokens: int
    forwards: int
    greedy: bool | None = None


def content_id(*parts: Sequence[int]) -> int:
    """A whole number below 2^62 that names token sequences by their content."""
    header = np.array([len(part) for part in parts], dtype="<i8").tobytes()
    body = b"".join(np.asarray(part, dtype="<i8").tobytes() for part in parts)
    return int.from_bytes(hashlib.sha256(header + body).digest()[:8], "little") >> 2


def score_targets(denoiser: Denoiser, targets: Sequence[Target], settings: ModelSettings) -> list[Estimate]:
    """One estimate per target, in order; equal to scoring each alone (bit for bit unless batching is "packed")."""
    single = [i for i, target in enumerate(targets) if len(target.completion_ids) == 1]
    longer = [i for i, target in enumerate(targets) if len(target.completion_ids) > 1]
    found: dict[int, Estimate] = {}
    found.update(zip(single, _single_tokens(denoiser, [targets[i] for i in single], settings)))
    found.update(zip(longer, _elbos(denoiser, [targets[i] for i in longer], settings)))
    bad = [i for i, estimate in found.items() if not math.isfinite(estimate.value)]
    if bad:
        raise UserError(
            f"the likelihood of {len(bad)} of {len(targets)} answers is not a finite number; check the checkpoint, and "
            "try dtype=float32"
        )
    return [found[i] for i in range(len(targets))]


def plan_of(target: Target, settings: ModelSettings) -> Plan:
    """The draws of a target: every subset where `num_draws` pays for them, else the design of the settings."""
    length = len(target.completion_ids)
    name = content_id(target.prompt_ids, target.completion_ids)
    exact = settings.exact_short and length <= _MOST_EXACT_TOKENS and 2**length - 1 <= settings.num_draws
    if exact:
        return plan(settings.seed, name, 0, length, 1, "all_subsets")
    return plan(settings.seed, name, 0, length, settings.num_draws, settings.draw_design)


def _elbos(denoiser: Denoiser, targets: Sequence[Target], settings: ModelSettings) -> list[Estimate]:
    if not targets:
        return []
    responses = [Response(place, target.prompt_ids, target.completion_ids) for place, target in enumerate(targets)]
    plans = [plan_of(target, settings) for target in targets]
    if settings.batching == "packed":
        rows = build_rows(responses, plans, denoiser.mask_token_id)
        batches = micro_batches(rows, settings.tokens_per_batch, denoiser.device)
        sums = row_values_without_graph(denoiser, batches, len(rows))
    else:
        sums = canonical_row_sums(denoiser, responses, plans)
    found = combine(sums, plans)
    errors = [float(error) if degrees_of_freedom(drawn) else None for error, drawn in zip(found.standard_error, plans)]
    return [
        Estimate(float(value), error, response.length, len(drawn.positions))
        for value, error, response, drawn in zip(found.values, errors, responses, plans)
    ]


@torch.no_grad()
def _single_tokens(denoiser: Denoiser, targets: Sequence[Target], settings: ModelSettings) -> list[Estimate]:
    """One forward per distinct prompt: all log-probabilities at the one hidden place."""
    members: dict[tuple[int, ...], list[int]] = {}
    for place, target in enumerate(targets):
        members.setdefault(target.prompt_ids, []).append(place)
    estimates: dict[int, Estimate] = {}
    for batch in _prompt_batches(list(members), settings):
        stream = [token for prompt in batch for token in (*prompt, denoiser.mask_token_id)]
        lengths = [len(prompt) + 1 for prompt in batch]
        index_N = torch.tensor(lengths, device=denoiser.device).cumsum(0) - 1
        ids_1T = torch.tensor([stream], device=denoiser.device)
        logits_NV = denoiser.logits_at(ids_1T, lengths, index_N)
        wide = torch.promote_types(logits_NV.dtype, torch.float32)
        log_p_NV = torch.log_softmax(logits_NV.to(wide), dim=-1)
        best_N = log_p_NV.index_fill(1, index_N.new_tensor([denoiser.mask_token_id]), -torch.inf).argmax(1)
        for row, prompt in enumerate(batch):
            for order, place in enumerate(members[prompt]):
                token = targets[place].completion_ids[0]
                value, greedy = float(log_p_NV[row, token]), bool(best_N[row] == token)
                estimates[place] = Estimate(value, 0.0, 1, 0 if order else 1, greedy)
    return [estimates[place] for place in range(len(targets))]


def _prompt_batches(prompts: list[tuple[int, ...]], settings: ModelSettings) -> list[list[tuple[int, ...]]]:
    if settings.batching != "packed":
        return [[prompt] for prompt in prompts]
    batches: list[list[tuple[int, ...]]] = []
    filled = 0
    for prompt in sorted(prompts, key=len):
        if not batches or filled + len(prompt) + 1 > settings.tokens_per_batch:
            batches.append([])
            filled = 0
        batches[-1].append(prompt)
        filled += len(prompt) + 1
    return batches


def greedy_matches(denoiser: Denoiser, targets: Sequence[Target], settings: ModelSettings) -> list[bool]:
    """Whether greedy decoding on a canvas of just the target's length gives the target, token for token.

    Greedy means LLaDA's deterministic sampler: one token per forward, the one that the model is surest of, temperature
    0, one block, end tokens taken as any other. It costs as many forwards as the target has tokens. For a causal
    language model lm-eval means the left-to-right argmax, which is another question.
    """
    found = [False] * len(targets)
    by_length: dict[int, list[int]] = {}
    for place, target in enumerate(targets):
        by_length.setdefault(len(target.completion_ids), []).append(place)
    for length, places in by_length.items():
        groups = [places] if settings.batching == "packed" else [[place] for place in places]
        for group in groups:
            drawn = generate(
                denoiser,
                [list(targets[place].prompt_ids) for place in group],
                GenerationConfig(gen_length=length, steps=length, block_length=None),
                None,
                tokens_per_batch=settings.tokens_per_batch,
            )
            for place, tokens in zip(group, drawn, strict=True):
                found[place] = tuple(tokens) == targets[place].completion_ids
    return found
