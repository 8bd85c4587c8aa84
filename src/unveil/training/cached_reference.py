"""`CachedReference`: a reference whose values were computed before training; no second model stays in memory."""

from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from unveil.errors import UserError
from unveil.likelihood import Row
from unveil.likelihood.canonical import canonical_log_probs
from unveil.likelihood.digests import digest_of_answer
from unveil.models import Denoiser
from unveil.training.cache_keys import Datasets, answers_of, epochs_of, keys_of_batch
from unveil.training.cache_shards import Draws
from unveil.training.draw_config import DrawConfig
from unveil.training.fingerprint import fingerprint_of
from unveil.training.micro_batch import MicroBatch
from unveil.training.reference import in_packed_order
from unveil.training.reference_cache import HELD_OUT_EPOCH, ReferenceCache


class CachedReference:
    """A `Reference` that reads a `ReferenceCache`.

    What it says equals, bit for bit on one device, what the model says under `live_log_probs`, or under any batch that
    `unveil.likelihood.canonical.canonical_batches` packed.
    """

    live = False

    def __init__(self, cache: ReferenceCache, share_sizes: bool) -> None:
        self.cache = cache
        self.share_sizes = share_sizes

    def log_probs(self, batch: MicroBatch, keys: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """log p of the hidden tokens of every packed part, `[N]` nats each, on the CPU.

        Raises:
            UserError: values are missing, or the rows are not those that were scored.
        """
        if not keys:
            return []
        (epoch,) = {epoch for _, epoch in keys}
        names = keys_of_batch(batch, self.share_sizes, epoch)
        values = [self.cache.log_probs(name) for name in names]
        known = self.cache.fingerprint.held_out if epoch == HELD_OUT_EPOCH else self.cache.fingerprint.answers
        for name, response, draws, plan in zip(names, batch.responses, values, batch.plans, strict=True):
            tokens_agree = known.get(name.example_id) == digest_of_answer(response)
            if not tokens_agree or [len(log_p) for log_p in draws] != [len(hidden) for hidden in plan.positions]:
                raise UserError(
                    f"{self.cache.flag} {self.cache.folder}: row {name.example_id} has other "
                    f"{'draws' if tokens_agree else 'tokens'} there than in this run; make a cache for this run in "
                    "another folder with `unveil reference`"
                )
        return in_packed_order(batch, [values[row.response][row.draw] for row in batch.draws])


def live_log_probs(denoiser: Denoiser, batch: MicroBatch) -> list[torch.Tensor]:
    """What a live model says of a batch, `[N]` nats for every packed part, computed as cached values are."""
    return in_packed_order(batch, canonical_log_probs(denoiser, batch.draws))


def by_answer(rows: Sequence[Row], log_probs: Sequence[torch.Tensor]) -> list[Draws]:
    """log p of every row, gathered answer by answer."""
    found: list[list[torch.Tensor]] = [[] for _ in range(1 + rows[-1].response)]
    for row, log_p in zip(rows, log_probs, strict=True):
        found[row.response].append(log_p)
    return [tuple(draws) for draws in found]


def reference_from_cache(
    folder: str | Path,
    model: nn.Module,
    denoiser: Denoiser,
    tokenizer: PreTrainedTokenizerBase | None,
    dataset: Dataset,
    args: DrawConfig,
    held_out: Datasets | None = None,
    adapters: bool = False,
    lone_row_joins: bool = False,
) -> CachedReference:
    """The reference of a run from the cache in a folder; arguments as of `fingerprint_of` and `optimizer_steps`.

    Raises:
        UserError: no cache, one of another run, a damaged or an unfinished one.
    """
    fingerprint = fingerprint_of(model, denoiser, tokenizer, dataset, args, held_out, adapters)
    cache = ReferenceCache.open(folder, fingerprint)
    epochs = epochs_of(args, len(dataset), lone_row_joins)
    keys = {answer.key(epoch) for answer in answers_of(dataset, args.share_sizes) for epoch in epochs}
    if held_out is not None:
        limit = args.max_eval_samples
        keys |= {answer.key(HELD_OUT_EPOCH) for answer in answers_of(held_out, args.share_sizes, limit)}
    cache.require(sorted(keys))
    return CachedReference(cache, args.share_sizes)
