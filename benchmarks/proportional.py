"""A model and batches with the proportions of LLaDA-8B on kto-mix-14k, small enough for a core.

LLaDA-8B: d 4096, 32 layers, feed-forward 3 d, vocabulary 126464, rows padded to 4096. Here d 512, 4 layers of 8 heads,
feed-forward 3 d, vocabulary 2048, rows padded to 512, and every length divided by 8: the head costs 7.7 % of the body
and attention 15 % of it at the padded length, as at 8B.

Lengths come from the real texts: characters times (mean tokens of the table / mean characters), prompt and completion
apart, which reproduces the table's quantiles within a few tokens per hundred. Token ids are random: no step looks at
them. Without the texts, lengths are drawn from the table itself, prompt and completion independently.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from unveil.likelihood import Response
from unveil.models import LLaDAConfig, LLaDAModelLM

SHRINK = 8
PADDED_LENGTH = 4096 // SHRINK
DATA = Path("../shared/data/kto_mix_test")

# Tokens of 1,500 test rows of kto-mix-14k under a 128k-vocabulary BPE with chat template: mean, and quantiles.
MEAN_PROMPT, MEAN_COMPLETION = 354, 283
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
PROMPT_TOKENS = (8, 48, 124, 520, 1296, 1862, 3653)
COMPLETION_TOKENS = (1, 97, 262, 425, 671, 856, 1579)


class Lengths(NamedTuple):
    """Tokens of one rated answer, before shrinking."""

    prompt: float
    completion: float
    desirable: bool


@dataclass(frozen=True)
class Batch:
    """An optimizer batch: responses, and whether each was liked."""

    responses: list[Response]
    desirable: list[bool]

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(len(r.prompt_ids) + r.length for r in self.responses)

    def describe(self) -> dict[str, float]:
        """Mean lengths, and the longest."""
        prompts = [len(r.prompt_ids) for r in self.responses]
        completions = [r.length for r in self.responses]
        return {
            "examples": len(prompts),
            "mean_prompt": float(np.mean(prompts)),
            "mean_completion": float(np.mean(completions)),
            "longest": self.longest,
        }


def proportional_model(
    width: int = 512, layers: int = 4, vocab_size: int = 2048, heads: int = 8, context: int = PADDED_LENGTH
) -> LLaDAModelLM:
    """The model with random weights, in the default dtype and on the default device."""
    config = LLaDAConfig(
        d_model=width,
        n_layers=layers,
        n_heads=heads,
        mlp_hidden_size=3 * width,
        vocab_size=vocab_size,
        max_sequence_length=context,
        eos_token_id=0,
        pad_token_id=0,
        mask_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LLaDAModelLM(config)


# Widths and layers of the model that `--quick` runs with.
QUICK = {"width": 32, "layers": 2}


@contextmanager
def checkpointed(model: torch.nn.Module) -> Iterator[None]:
    """Inside, every block keeps its input alone and is computed again in backward."""
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    was_training = model.training
    model.train()
    for block in blocks:
        block.gradient_checkpointing = True
        run_again: Any = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        block._gradient_checkpointing_func = run_again
    try:
        yield
    finally:
        for block in blocks:
            block.gradient_checkpointing = False
        model.train(was_training)


def data_lengths(folder: Path = DATA) -> tuple[list[Lengths], str]:
    """Lengths of all rated answers, and where they come from."""
    if not (folder / "chosen.jsonl").is_file():
        return _lengths_of_table(1500), "length table"
    characters = []
    for name in ("chosen", "rejected"):
        for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            prompt = sum(len(turn["content"]) for turn in row["prompt"])
            characters.append((prompt, len(row["completion"][0]["content"]), name == "chosen"))
    prompt_rate = MEAN_PROMPT * len(characters) / sum(p for p, _, _ in characters)
    completion_rate = MEAN_COMPLETION * len(characters) / sum(c for _, c, _ in characters)
    return [Lengths(p * prompt_rate, c * completion_rate, up) for p, c, up in characters], str(folder.name)


def _lengths_of_table(count: int) -> list[Lengths]:
    rng = np.random.default_rng(0)
    prompts = np.interp(rng.random(count), QUANTILES, PROMPT_TOKENS)
    completions = np.interp(rng.random(count), QUANTILES, COMPLETION_TOKENS)
    prompts *= MEAN_PROMPT / prompts.mean()
    completions *= MEAN_COMPLETION / completions.mean()
    return [Lengths(float(p), float(c), i % 2 == 0) for i, (p, c) in enumerate(zip(prompts, completions))]


def representative(
    lengths: list[Lengths], count: int, vocab_size: int = 2048, shrink: int = SHRINK, tries: int = 2000
) -> Batch:
    """Of many random batches, half of them liked answers, the one whose mean lengths are nearest to the data's."""
    rng = np.random.default_rng(count)
    sizes = np.array([shrunk(item, shrink) for item in lengths])
    target = sizes.mean(axis=0)
    liked = [i for i, item in enumerate(lengths) if item.desirable]
    others = [i for i, item in enumerate(lengths) if not item.desirable]
    half = count // 2
    candidates = [
        np.concatenate([rng.choice(liked, half, False), rng.choice(others, count - half, False)]) for _ in range(tries)
    ]
    best = min(candidates, key=lambda chosen: np.abs(sizes[chosen].mean(axis=0) / target - 1).sum())
    return batch_of([tuple(sizes[i]) for i in best], [lengths[i].desirable for i in best], vocab_size)


def shrunk(item: Lengths, shrink: int = SHRINK) -> tuple[int, int]:
    """Prompt and completion tokens divided by `shrink`, together at most the padded length."""
    longest = 4096 // shrink
    prompt = min(max(1, round(item.prompt / shrink)), longest - 1)
    return prompt, max(1, min(round(item.completion / shrink), longest - prompt))


def batch_of(sizes: Sequence[tuple[int, int]], desirable: Sequence[bool], vocab_size: int = 2048) -> Batch:
    """Responses of these (prompt, completion) sizes with random ids (neither EOS 0 nor mask 1)."""
    rng = np.random.default_rng(0)
    responses = []
    for number, size in enumerate(sizes):
        prompt, completion = (rng.integers(2, vocab_size, count).tolist() for count in size)
        responses.append(Response(number, prompt, completion))
    return Batch(responses, list(desirable))
