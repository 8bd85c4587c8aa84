"""Reference as a strategy: where B_ref comes from.

`FrozenCopy`       a second set of weights, the default of full fine-tuning; it may follow the policy (`mix`). Of
                   adapters that go on being trained it copies the adapters alone.
`AdaptersOff`      the same weights with new adapters (LoRA) switched off: no extra memory.
`CachedValues`     log-probabilities computed once before training; no second model stays in memory.
`CachedReference`  the same from a folder that outlives the run (`unveil.training.cached_reference`).

Policy and reference are scored by the same function on the same packed rows, so at the first step every margin is 0.
"""

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn

from unveil.errors import UserError
from unveil.likelihood import hidden_log_probs
from unveil.likelihood.digests import digest_of_answer
from unveil.models import Denoiser, unwrap
from unveil.training.cache_keys import Key, keys_of_batch
from unveil.training.micro_batch import MicroBatch

AnswerEpoch = tuple[int, int]
"""(example_id, epoch) of an answer."""


class Reference(Protocol):
    """Scores the packed rows of a device batch."""

    live: bool
    """Whether a network computes the values as they are asked for."""

    def log_probs(self, batch: MicroBatch, keys: Sequence[AnswerEpoch]) -> list[torch.Tensor]:
        """log p of the hidden tokens of every packed part, `[N]` nats each, on the CPU.

        `keys` are the (example_id, epoch) of the answers, in the order of the rows.
        """
        ...


def row_sums_of(batch: MicroBatch, log_probs: Sequence[torch.Tensor]) -> torch.Tensor:
    """`S(M)` of every row in its order, from the log p of the packed parts."""
    sums = torch.empty(batch.num_rows, dtype=log_probs[0].dtype if log_probs else torch.float32)
    for packed, log_p_N in zip(batch.packed, log_probs, strict=True):
        sums[packed.order] = batch.row_sums(packed, log_p_N)
    return sums


def log_probs_without_graph(denoiser: Denoiser, batch: MicroBatch) -> list[torch.Tensor]:
    """log p of the hidden tokens of every packed part, `[N]` nats each, on the CPU."""
    with torch.no_grad():
        for part in batch.idle:
            hidden_log_probs(denoiser, part)
        return [hidden_log_probs(denoiser, part).cpu() for part in batch.packed]


class FrozenCopy:
    """A model of its own, in evaluation mode and without gradients."""

    live = True

    def __init__(self, model: nn.Module, denoiser: Denoiser) -> None:
        model.requires_grad_(False).eval()
        self.model = model
        self.denoiser = Denoiser(model, denoiser.mask_token_id, denoiser.logit_shift)

    @classmethod
    def of(cls, model: nn.Module, denoiser: Denoiser, share_frozen: bool = False) -> "FrozenCopy":
        """Copy the policy as it is now; with `share_frozen`, weights that are not trained are those of the policy."""
        shared = {id(p): p for p in model.parameters() if share_frozen and not p.requires_grad}
        return cls(copy.deepcopy(model, dict(shared)), denoiser)

    def prepare(self, accelerator: Any) -> None:
        """Give it the precision and the sharding of the policy, so that both run the same kernels."""
        self.denoiser.model = accelerator.prepare_model(self.denoiser.model, evaluation_mode=True)

    def log_probs(self, batch: MicroBatch, keys: Sequence[AnswerEpoch]) -> list[torch.Tensor]:
        return log_probs_without_graph(self.denoiser, batch)

    def mix(self, policy: nn.Module, alpha: float) -> None:
        """theta_ref <- alpha theta + (1 - alpha) theta_ref (TR-DPO, arXiv 2404.09656; 1 copies the policy)."""
        with torch.no_grad():
            for mine, theirs in zip(self.model.parameters(), policy.parameters(), strict=True):
                mine.lerp_(theirs.to(mine.dtype), alpha)


class AdaptersOff:
    """The policy with its adapters switched off."""

    live = True

    def __init__(self, peft_model: Any, denoiser: Denoiser) -> None:
        self.peft_model = peft_model
        self.denoiser = denoiser

    def log_probs(self, batch: MicroBatch, keys: Sequence[AnswerEpoch]) -> list[torch.Tensor]:
        with self.peft_model.disable_adapter():
            return log_probs_without_graph(self.denoiser, batch)


class CachedValues:
    """Log-probabilities of every answer in every epoch that training will ask for.

    They are named by the answer's tokens too: data of several sources may hold an id more than once.
    """

    live = False

    def __init__(self, share_sizes: bool) -> None:
        self.share_sizes = share_sizes
        self.values: dict[tuple[Key, str], list[torch.Tensor]] = {}

    def store(self, batch: MicroBatch, epoch: int, log_probs: Sequence[torch.Tensor]) -> None:
        """Keep what the reference said of a batch, `[N]` for every packed part."""
        by_row = in_row_order(batch, log_probs)
        start = 0
        for name, count in zip(self._names(batch, epoch), batch.draws_per_answer):
            self.values[name] = by_row[start : start + count]
            start += count

    def log_probs(self, batch: MicroBatch, keys: Sequence[AnswerEpoch]) -> list[torch.Tensor]:
        if not keys:
            return []
        names = self._names(batch, keys[0][1])
        missing = [key for key, tokens in names if (key, tokens) not in self.values]
        if missing:
            where = "as a held-out row" if missing[0].epoch < 0 else f"for epoch {missing[0].epoch}"
            raise UserError(
                f"--precompute_ref_log_probs: row {missing[0].example_id} was not scored {where} before training; keep "
                "to the rows that were, or leave the flag out"
            )
        return in_packed_order(batch, [row for name in names for row in self.values[name]])

    def _names(self, batch: MicroBatch, epoch: int) -> list[tuple[Key, str]]:
        keys = keys_of_batch(batch, self.share_sizes, epoch)
        return [(key, digest_of_answer(response)) for key, response in zip(keys, batch.responses, strict=True)]


def in_row_order(batch: MicroBatch, log_probs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """log p of every row, `[l]` each, from those of the packed parts, `[N]` each."""
    rows: list[torch.Tensor] = [torch.empty(0)] * batch.num_rows
    for packed, log_p_N in zip(batch.packed, log_probs, strict=True):
        for row, part in zip(packed.order, log_p_N.split(packed.hidden_counts)):
            rows[row] = part
    return rows


def in_packed_order(batch: MicroBatch, log_probs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The inverse of `in_row_order`."""
    return [torch.cat([log_probs[row] for row in packed.order]) for packed in batch.packed]


def reference_weights(reference: Reference) -> dict[str, torch.Tensor]:
    """The weights of a copy that moves, by name, for a checkpoint."""
    assert isinstance(reference, FrozenCopy)
    return {
        name: value.detach().cpu().contiguous().clone() for name, value in unwrap(reference.model).named_parameters()
    }
