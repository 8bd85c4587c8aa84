"""Answers to many prompts of any lengths at once, by unmasking (LLaDA, arXiv 2502.09992, section 2.4; Fast-dLLM).

Prompts of similar lengths share a packed stream, and a step is one forward of it.

Deviations from LLaDA's script: the mask token is never committed; the rules for end tokens act at every temperature
and for every remasking; guidance works without an attention mask; noise belongs to the prompt, not to the batch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from unveil.generation.canvas import lay_out, micro_batches
from unveil.generation.checks import check
from unveil.generation.config import GenerationConfig
from unveil.generation.filling import Filling
from unveil.generation.reveals import Observer
from unveil.generation.statistics import Statistics, Tally

if TYPE_CHECKING:
    from unveil.models import Denoiser


@dataclass(frozen=True)
class Samples:
    """Token ids of each answer, in the order of the prompts, and what they cost."""

    answers: list[list[int]]
    statistics: Statistics


def generate(
    denoiser: "Denoiser",
    prompts_ids: Sequence[Sequence[int]],
    config: GenerationConfig,
    eos_token_id: int | None,
    extra_eos_ids: Sequence[int] = (),
    *,
    tokens_per_batch: int = 4096,
    indices: Sequence[int] | None = None,
    progress: bool = False,
    observer: Observer | None = None,
) -> list[list[int]]:
    """Answer every prompt; returns the answers' token ids in the order of the prompts.

    The first end token (`eos_token_id` or one of `extra_eos_ids`, such as an end-of-turn token) and everything after
    it are left out, so an answer is shorter than `config.gen_length` exactly when it ended by itself.

    tokens_per_batch: prompt and canvas tokens in one forward, which bounds memory. An answer depends on the model,
    the prompt, the config and the prompt's index only: not on the other prompts nor on `tokens_per_batch`, up to the
    rounding of the model's own arithmetic. indices: the prompts' indices, by default 0, 1, 2, ...; give them when a
    process answers a part of a longer list. observer: called after every step of every batch.

    Raises UserError for prompts that do not fit the model or contain the mask token, for end-token rules without end
    tokens, for a cache that the model cannot have, and for logits that are not finite.
    """
    return sample(
        denoiser,
        prompts_ids,
        config,
        eos_token_id,
        extra_eos_ids,
        tokens_per_batch=tokens_per_batch,
        indices=indices,
        progress=progress,
        observer=observer,
    ).answers


@torch.no_grad()
def sample(
    denoiser: "Denoiser",
    prompts_ids: Sequence[Sequence[int]],
    config: GenerationConfig,
    eos_token_id: int | None,
    extra_eos_ids: Sequence[int] = (),
    *,
    tokens_per_batch: int = 4096,
    indices: Sequence[int] | None = None,
    progress: bool = False,
    observer: Observer | None = None,
) -> Samples:
    """`generate`, with the cost of the answers."""
    indices = list(range(len(prompts_ids))) if indices is None else list(indices)
    end_ids = [*([] if eos_token_id is None else [eos_token_id]), *extra_eos_ids]
    check(denoiser, prompts_ids, indices, config, end_ids, tokens_per_batch)

    answers: list[list[int]] = [[] for _ in prompts_ids]
    tally = Tally()

    def take(row: int, canvas: list[int]) -> None:
        answers[row] = _until_end(canvas, end_ids)

    lengths = [len(prompt) + config.gen_length for prompt in prompts_ids]
    with _progress_bar(progress, len(prompts_ids) * config.gen_length) as advance, _evaluating(denoiser):
        for rows in micro_batches(lengths, tokens_per_batch):
            canvas = lay_out(
                prompts_ids,
                rows,
                indices,
                gen_length=config.gen_length,
                mask_token_id=denoiser.mask_token_id,
                seed=config.seed,
                device=denoiser.device,
            )
            Filling(denoiser, canvas, config, end_ids, tally, advance, observer).run(take)
    return Samples(answers, tally.statistics(answers))


def _until_end(answer: list[int], end_ids: list[int]) -> list[int]:
    ends = (position for position, token in enumerate(answer) if token in end_ids)
    return answer[: next(ends, len(answer))]


@contextmanager
def _evaluating(denoiser: "Denoiser") -> Iterator[None]:
    """No dropout while sampling; the model's mode is put back afterwards."""
    model: nn.Module = denoiser.model
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def _progress_bar(show: bool, total: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of canvas tokens that are settled."""
    if not show:
        yield lambda count: None
        return
    columns = (TextColumn("generating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("generating", total=total)
        yield lambda count: bar.advance(task, count)
