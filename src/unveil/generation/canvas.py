"""Prompts and their masked canvases as one packed stream, cut into micro-batches of similar lengths."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unveil.generation.noise import prompt_keys


@dataclass
class Canvas:
    """N sequences, each prompt + `gen_length` masks, laid end to end in a stream of T tokens.

    rows: N numbers of the prompts. stream: int64 [1, T] ids, filled in place while sampling. is_prompt: bool [T].
    segment_lengths: N ints that sum to T. first: int64 [N], stream index of each canvas's first token. keys: int64
    [N], random keys (see `noise`). masked: bool [N, gen_length], what is not committed yet.
    """

    rows: list[int]
    stream: Tensor
    is_prompt: Tensor
    segment_lengths: list[int]
    first: Tensor
    keys: Tensor
    masked: Tensor

    @property
    def gen_length(self) -> int:
        """Tokens of each canvas."""
        return self.masked.shape[1]

    @property
    def tokens(self) -> Tensor:
        """The canvases' tokens, int64 [N, gen_length]."""
        return self.stream[0, self.first[:, None] + torch.arange(self.gen_length, device=self.first.device)]

    def commit(self, row_K: Tensor, position_K: Tensor, token_K: Tensor) -> None:
        """Put tokens in their places for good."""
        self.stream[0, self.first[row_K] + position_K] = token_K
        self.masked[row_K, position_K] = False

    def settled(self, ends: Tensor) -> Tensor:
        """Bool [N]: the answer can no longer change, since nothing is masked before its first end token or at all."""
        after_end_NG = torch.isin(self.tokens, ends).logical_and_(~self.masked).cumsum(1) > 0
        return ~(self.masked & ~after_end_NG).any(1)

    def keep(self, segments: list[int]) -> None:
        """Let all sequences but these leave."""
        device = self.stream.device
        pieces = torch.arange(self.stream.shape[1]).split(self.segment_lengths)
        index_T = torch.cat([pieces[segment] for segment in segments]).to(device)
        chosen = torch.tensor(segments, device=device)
        self.rows = [self.rows[segment] for segment in segments]
        self.stream, self.is_prompt = self.stream[:, index_T], self.is_prompt[index_T]
        self.segment_lengths = [self.segment_lengths[segment] for segment in segments]
        self.first = torch.tensor(self.segment_lengths).cumsum(0).to(device) - self.gen_length
        self.keys, self.masked = self.keys[chosen], self.masked[chosen]


def micro_batches(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Row numbers in order of length, cut where the next row would exceed `tokens_per_batch`; one always fits."""
    batches: list[list[int]] = []
    filled = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not batches or filled + lengths[row] > tokens_per_batch:
            batches.append([])
            filled = 0
        batches[-1].append(row)
        filled += lengths[row]
    return batches


def lay_out(
    prompts_ids: Sequence[Sequence[int]],
    rows: list[int],
    indices: Sequence[int],
    *,
    gen_length: int,
    mask_token_id: int,
    seed: int,
    device: torch.device,
) -> Canvas:
    """Put prompts number `rows` and their masks on a stream. `indices` are all prompts' numbers for the random keys."""
    masks = [mask_token_id] * gen_length
    stream = [token for row in rows for token in (*prompts_ids[row], *masks)]
    prompt_lengths = torch.tensor([len(prompts_ids[row]) for row in rows])
    lengths = prompt_lengths + gen_length
    flags = torch.tensor([True, False]).repeat(len(rows))
    spans = torch.stack([prompt_lengths, torch.full_like(prompt_lengths, gen_length)], 1).flatten()
    return Canvas(
        rows=list(rows),
        stream=torch.tensor([stream], device=device),
        is_prompt=flags.repeat_interleave(spans).to(device),
        segment_lengths=lengths.tolist(),
        first=(lengths.cumsum(0) - gen_length).to(device),
        keys=prompt_keys(seed, torch.tensor([indices[row] for row in rows], dtype=torch.int64)).to(device),
        masked=torch.ones(len(rows), gen_length, dtype=torch.bool, device=device),
    )
