"""LLaDA's sampler (arXiv 2502.09992, section 2.4), for many prompts of any lengths at once.

All canvases follow the same schedule, so at every step the positions still masked in the current block form a dense
[N, M] table, whatever the lengths of the prompts: a step is one packed forward, one draw and one scatter.

Deviations from LLaDA's script: the mask token is never committed; the rules for end tokens act at every temperature
and for every remasking; guidance works without an attention mask; noise belongs to the prompt, not to the batch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from unveil.errors import UserError, name_rows
from unveil.generation.canvas import Canvas, lay_out, micro_batches
from unveil.generation.config import GenerationConfig
from unveil.generation.noise import subkeys
from unveil.generation.prediction import predict

if TYPE_CHECKING:
    from unveil.models import Denoiser


@torch.no_grad()
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
) -> list[list[int]]:
    """Answer every prompt; returns the answers' token ids in the order of the prompts.

    The first end token (`eos_token_id` or one of `extra_eos_ids`, such as an end-of-turn token) and everything after
    it are left out, so an answer is shorter than `config.gen_length` exactly when it ended by itself.

    tokens_per_batch: prompt and canvas tokens in one forward, which bounds memory. An answer depends on the model,
    the prompt, the config and the prompt's index only: not on the other prompts nor on `tokens_per_batch`, up to the
    rounding of the model's own arithmetic. indices: the prompts' indices, by default 0, 1, 2, ...; give them when a
    process answers a part of a longer list.

    Raises UserError for prompts that do not fit the model or contain the mask token, for end-token rules without end
    tokens, and for logits that are not finite.
    """
    indices = list(range(len(prompts_ids))) if indices is None else list(indices)
    end_ids = [*([] if eos_token_id is None else [eos_token_id]), *extra_eos_ids]
    _check(denoiser, prompts_ids, indices, config, end_ids, tokens_per_batch)

    answers: list[list[int]] = [[] for _ in prompts_ids]
    lengths = [len(prompt) + config.gen_length for prompt in prompts_ids]
    with _progress_bar(progress, len(prompts_ids) * config.num_steps) as advance, _evaluating(denoiser):
        for rows in micro_batches(lengths, tokens_per_batch):
            canvas = lay_out(
                [prompts_ids[row] for row in rows],
                [indices[row] for row in rows],
                gen_length=config.gen_length,
                mask_token_id=denoiser.mask_token_id,
                seed=config.seed,
                device=denoiser.device,
            )
            finite_N = _fill(denoiser, canvas, config, end_ids, advance)
            if not finite_N.all():
                bad = [rows[row] for row in (~finite_N).nonzero()[:, 0].tolist()]
                raise UserError(
                    f"prompts {name_rows(sorted(bad))}: the model's logits are not finite; "
                    "check the checkpoint, and try --dtype float32 or bfloat16"
                )
            for row, answer in zip(rows, canvas.answers(), strict=True):
                answers[row] = _until_end(answer, end_ids)
    return answers


def _fill(
    denoiser: "Denoiser", canvas: Canvas, config: GenerationConfig, end_ids: list[int], advance: Callable[[int], None]
) -> Tensor:
    """Fill all canvases in place. Returns bool [N], False where the model's logits were not finite."""
    device = canvas.stream.device
    ends = torch.tensor(end_ids, dtype=torch.int64, device=device)
    never = end_ids if config.eos_rule == "never" else []
    forbidden = torch.tensor([denoiser.mask_token_id, *never], device=device)
    # A random order does not depend on the logits, so they are computed at the chosen positions only; except that
    # "late" must see which positions predict an end token before it can hold them back.
    choose_first = config.remasking == "random" and config.eos_rule != "late"
    finite_N = torch.ones_like(canvas.first, dtype=torch.bool)
    step = 0
    for masked_NM in _blocks(canvas, config):
        for count in config.commits_per_step:
            seen_NM = masked_NM[:, :count] if choose_first else masked_NM
            index_NM = canvas.first[:, None] + seen_NM
            tokens_NM, confidence_NM, finite_NM = (
                out.view_as(seen_NM)
                for out in predict(
                    _logits(denoiser, canvas, index_NM.flatten(), config.cfg_scale),
                    subkeys(canvas.keys[:, None], (step + 1) * config.gen_length + seen_NM).flatten(),
                    temperature=config.temperature,
                    top_p=config.top_p,
                    forbidden=forbidden,
                    with_confidence=config.remasking == "low_confidence",
                )
            )
            if config.eos_rule == "late":  # probabilities are in [0, 1]: below all others, ordered among themselves
                confidence_NM = confidence_NM - 2.0 * torch.isin(tokens_NM, ends)
            # Stable: equals keep their order, which is by position, or the random order of `_blocks`.
            rank_NM = confidence_NM.argsort(dim=1, descending=True, stable=True)
            chosen_NC = rank_NM[:, :count]
            canvas.stream[0, index_NM.gather(1, chosen_NC)] = tokens_NM.gather(1, chosen_NC)
            if choose_first:
                masked_NM = masked_NM[:, count:]
            else:
                masked_NM = masked_NM.gather(1, rank_NM[:, count:].sort(dim=1).values)
            finite_N &= finite_NM.all(1)
            step += 1
            advance(len(canvas.segment_lengths))
    return finite_N


def _blocks(canvas: Canvas, config: GenerationConfig) -> Iterator[Tensor]:
    """The canvas positions [N, block_length] of each block, ascending, or in the random order of "random"."""
    size = config.gen_length // config.num_blocks
    for start in range(0, config.gen_length, size):
        position_M = torch.arange(start, start + size, device=canvas.first.device)
        position_NM = position_M.expand(len(canvas.segment_lengths), size)
        if config.remasking == "random":  # counters below gen_length are for the order, those above for the tokens
            order_NM = subkeys(canvas.keys[:, None], position_M).argsort(dim=1)
            position_NM = position_NM.gather(1, order_NM)
        yield position_NM


def _logits(denoiser: "Denoiser", canvas: Canvas, index_N: Tensor, cfg_scale: float) -> Tensor:
    """Logits [N, V] at stream positions `index_N`, guided by w = cfg_scale: un + (w + 1)(cond - un)."""
    conditional_NV = denoiser.logits_at(canvas.stream, canvas.segment_lengths, index_N)
    if cfg_scale == 0:
        return conditional_NV
    blank_1T = canvas.stream.masked_fill(canvas.is_prompt, denoiser.mask_token_id)
    unconditional_NV = denoiser.logits_at(blank_1T, canvas.segment_lengths, index_N).float()
    return unconditional_NV + (cfg_scale + 1) * (conditional_NV.float() - unconditional_NV)


def _until_end(answer: list[int], end_ids: list[int]) -> list[int]:
    ends = (position for position, token in enumerate(answer) if token in end_ids)
    return answer[: next(ends, len(answer))]


def _check(
    denoiser: "Denoiser",
    prompts_ids: Sequence[Sequence[int]],
    indices: list[int],
    config: GenerationConfig,
    end_ids: list[int],
    tokens_per_batch: int,
) -> None:
    if len(indices) != len(prompts_ids):
        raise UserError(f"indices: {len(indices)} of them for {len(prompts_ids)} prompts; give one per prompt")
    if tokens_per_batch < 1:
        raise UserError(f"--tokens_per_batch {tokens_per_batch}: no token fits; give 1 or more")
    if config.eos_rule != "free" and not end_ids:
        raise UserError(f"--eos_rule {config.eos_rule}: the tokenizer has no end token; give --eos_rule free")
    foreign = [token for token in end_ids if not 0 <= token < denoiser.vocab_size]
    if foreign:
        raise UserError(
            f"end token {foreign[0]}: outside the model's vocabulary of {denoiser.vocab_size}; "
            "give the tokenizer that belongs to the model"
        )
    if denoiser.max_length is not None:
        room = max(0, denoiser.max_length - config.gen_length)
        long = [row for row, prompt in enumerate(prompts_ids) if len(prompt) + config.gen_length > denoiser.max_length]
        if long:
            raise UserError(
                f"prompts {name_rows(long)}: longer than the {room} tokens that --gen_length {config.gen_length} "
                f"leaves of the model's {denoiser.max_length}; shorten them or give a smaller --gen_length"
            )
    masked = [row for row, prompt in enumerate(prompts_ids) if denoiser.mask_token_id in prompt]
    if masked:
        raise UserError(f"prompts {name_rows(masked)}: contain the mask token; remove it from the text")


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
    """A function to call with the number of answers that moved one step on."""
    if not show:
        yield lambda count: None
        return
    columns = (TextColumn("generating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("generating", total=total)
        yield lambda count: bar.advance(task, count)
