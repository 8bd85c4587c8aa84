"""The sampler's calls of the network: whole streams, or the parts that changed with kept keys and values; guidance.

Fast-dLLM's block-wise caching (arXiv 2505.22618), per sequence: the first step of a block computes every token; the
others compute the block and what follows it ("prefix": keys and values of what precedes the block are kept) or the
block alone ("dual": all but the block's are kept). Sequences of one batch may be at different steps of different
blocks; every step is one packed forward in which each sequence has a window of its own.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unveil.errors import UserError
from unveil.generation.canvas import Canvas
from unveil.generation.config import GenerationConfig
from unveil.generation.statistics import Tally
from unveil.models.key_values import KeyValues

if TYPE_CHECKING:
    from unveil.models import Denoiser


def check_cache(denoiser: "Denoiser", config: GenerationConfig) -> None:
    """Refuse a cache that the network cannot have."""
    if config.cache == "none":
        return
    if not getattr(denoiser, "keeps_keys", False):
        why = "reads a token's logits one position before it" if getattr(denoiser, "logit_shift", 0) else "keeps none"
        raise UserError(f"--cache {config.cache}: needs keys and values, and this model {why}; give --cache none")


class Network:
    """The network and what it keeps for one canvas."""

    def __init__(self, denoiser: "Denoiser", canvas: Canvas, config: GenerationConfig, tally: Tally) -> None:
        self._denoiser, self._canvas, self._config, self._tally = denoiser, canvas, config, tally
        self._kept: list[KeyValues] = []
        if config.cache != "none":
            self._kept = [KeyValues(canvas.segment_lengths) for _ in range(2 if config.cfg_scale else 1)]

    def keep(self, segments: list[int]) -> None:
        """The canvas lets all sequences but these leave."""
        for kept in self._kept:
            kept.keep(segments)

    def logits(self, row_M: Tensor, position_M: Tensor, blocks: list[int], steps: list[int]) -> Tensor:
        """Logits [M, V] at canvas positions `position_M` of rows `row_M`, guided by `cfg_scale`.

        blocks, steps: each row's block, and number of steps that it made in it.
        """
        index_M = self._canvas.first[row_M] + position_M
        if self._config.cache == "none" or all(map(self._config.refreshes, steps)):
            return self._guided(self._whole, index_M, self._canvas.segment_lengths)
        return self._in_windows(row_M, index_M, blocks, steps)

    def _guided(self, ask: Callable[[Tensor, Tensor, int], Tensor], index_M: Tensor, counts: list[int]) -> Tensor:
        """un + (w + 1)(cond - un), where `un` sees the prompt as masks; `counts` tokens of each row are computed."""
        canvas, scale = self._canvas, self._config.cfg_scale
        conditional_MV = ask(canvas.stream, index_M, 0)
        self._tally.forward(canvas.rows, counts)
        if scale == 0:
            return conditional_MV
        blank_1T = canvas.stream.masked_fill(canvas.is_prompt, self._denoiser.mask_token_id)
        unconditional_MV = ask(blank_1T, index_M, 1).float()
        self._tally.forward(canvas.rows, counts)
        return unconditional_MV + (scale + 1) * (conditional_MV.float() - unconditional_MV)

    def _whole(self, stream_1T: Tensor, index_M: Tensor, which: int) -> Tensor:
        lengths = self._canvas.segment_lengths
        if not self._kept:
            return self._denoiser.logits_at(stream_1T, lengths, index_M)
        return self._denoiser.logits_with(self._kept[which], stream_1T, lengths, index_M)

    def _in_windows(self, row_M: Tensor, index_M: Tensor, blocks: list[int], steps: list[int]) -> Tensor:
        device = index_M.device
        starts, counts = self._windows(blocks, steps)
        ends = list(accumulate(self._canvas.segment_lengths))
        stream_starts = [end - length + start for end, length, start in zip(ends, self._canvas.segment_lengths, starts)]
        offsets = [end - count for end, count in zip(accumulate(counts), counts)]
        counts_N = torch.tensor(counts)
        within_P = torch.arange(sum(counts)) - torch.tensor(offsets).repeat_interleave(counts_N)
        part_P = (within_P + torch.tensor(stream_starts).repeat_interleave(counts_N)).to(device)
        places_1P = (within_P + torch.tensor(starts).repeat_interleave(counts_N))[None].to(device)
        shift_N = (torch.tensor(offsets) - torch.tensor(stream_starts)).to(device)

        def ask(stream_1T: Tensor, index_M: Tensor, which: int) -> Tensor:
            return self._denoiser.logits_with(
                self._kept[which], stream_1T[:, part_P], counts, index_M + shift_N[row_M], part_P, places_1P
            )

        return self._guided(ask, index_M, counts)

    def _windows(self, blocks: list[int], steps: list[int]) -> tuple[list[int], list[int]]:
        """Where in its sequence each row's computed tokens start, and how many they are."""
        config, starts, counts = self._config, [], []
        for length, block, step in zip(self._canvas.segment_lengths, blocks, steps):
            start = length - config.gen_length + block * config.block_size
            count = config.block_size if config.cache == "dual" else length - start
            fresh = config.refreshes(step)
            starts.append(0 if fresh else start)
            counts.append(length if fresh else count)
        return starts, counts
