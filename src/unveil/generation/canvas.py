"""Prompts and their masked canvases as one packed stream, cut into micro-batches of similar lengths."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unveil.generation.noise import prompt_keys


@dataclass(frozen=True)
class Canvas:
    """N sequences, each prompt + `gen_length` masks, laid end to end in a stream of T tokens.

    stream: int64 [1, T] ids, filled in place while sampling. is_prompt: bool [T]. segment_lengths: N ints that sum
    to T. first: int64 [N], stream index of each canvas's first token. keys: int64 [N], random keys (see `noise`).
    """

    stream: Tensor
    is_prompt: Tensor
    segment_lengths: list[int]
    first: Tensor
    keys: Tensor
    gen_length: int

    def answers(self) -> list[list[int]]:
        """The canvases' tokens, N lists of `gen_length` ids."""
        index_NG = self.first[:, None] + torch.arange(self.gen_length, device=self.first.device)
        return self.stream[0, index_NG].tolist()


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
    indices: Sequence[int],
    *,
    gen_length: int,
    mask_token_id: int,
    seed: int,
    device: torch.device,
) -> Canvas:
    """Put the prompts and their masks on a stream. `indices` are the prompts' numbers for the random keys."""
    masks = [mask_token_id] * gen_length
    stream = [token for prompt in prompts_ids for token in (*prompt, *masks)]
    prompt_lengths = torch.tensor([len(prompt) for prompt in prompts_ids])
    lengths = prompt_lengths + gen_length
    flags = torch.tensor([True, False]).repeat(len(prompts_ids))
    spans = torch.stack([prompt_lengths, torch.full_like(prompt_lengths, gen_length)], 1).flatten()
    return Canvas(
        stream=torch.tensor([stream], device=device),
        is_prompt=flags.repeat_interleave(spans).to(device),
        segment_lengths=lengths.tolist(),
        first=(lengths.cumsum(0) - gen_length).to(device),
        keys=prompt_keys(seed, torch.tensor(indices, dtype=torch.int64)).to(device),
        gen_length=gen_length,
    )
