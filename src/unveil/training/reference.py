"""Reference as a strategy: where B_ref comes from.

`FrozenCopy`    a second set of weights, the default of full fine-tuning.
`AdaptersOff`   the same weights with LoRA switched off: no extra memory.
`CachedValues`  row sums computed once before training; no second model stays in memory. It enters here; the cache file
                that outlives a run is another room's.

Policy and reference are scored by the same function on the same packed rows, so at the first step every margin is 0.
"""

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn

from unveil.likelihood import PackedRows, row_values_without_graph
from unveil.models import Denoiser


class Reference(Protocol):
    """Gives `S(M)` of packed rows under the reference."""

    def row_sums(self, packed: Sequence[PackedRows], num_rows: int, keys: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Row sums `[num_rows]`, nats, on the CPU.

        Args:
            packed: micro-batches of the rows.
            num_rows: their number.
            keys: (example_id, epoch) of each response, in the order of the rows.
        """
        ...


class FrozenCopy:
    """A model of its own, in evaluation mode and without gradients."""

    def __init__(self, model: nn.Module, denoiser: Denoiser) -> None:
        model.requires_grad_(False).eval()
        self.denoiser = Denoiser(model, denoiser.mask_token_id, denoiser.logit_shift)

    @classmethod
    def of(cls, model: nn.Module, denoiser: Denoiser) -> "FrozenCopy":
        """Copy the policy as it is now."""
        return cls(copy.deepcopy(model), denoiser)

    def prepare(self, accelerator: Any) -> None:
        """Give it the precision and the sharding of the policy, so that both run the same kernels."""
        self.denoiser.model = accelerator.prepare_model(self.denoiser.model, evaluation_mode=True)

    def row_sums(self, packed: Sequence[PackedRows], num_rows: int, keys: Sequence[tuple[int, int]]) -> torch.Tensor:
        return row_values_without_graph(self.denoiser, packed, num_rows)


class AdaptersOff:
    """The policy with its adapters switched off."""

    def __init__(self, peft_model: Any, denoiser: Denoiser) -> None:
        self.peft_model = peft_model
        self.denoiser = denoiser

    def row_sums(self, packed: Sequence[PackedRows], num_rows: int, keys: Sequence[tuple[int, int]]) -> torch.Tensor:
        with self.peft_model.disable_adapter():
            return row_values_without_graph(self.denoiser, packed, num_rows)


class CachedValues:
    """Row sums of every (example, epoch) that training will ask for."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, int], torch.Tensor] = {}

    def store(self, keys: Sequence[tuple[int, int]], row_sums: torch.Tensor) -> None:
        """Keep the sums of a batch; every response has as many rows as the others."""
        for key, sums in zip(keys, row_sums.view(len(keys), -1)):
            self.sums[key] = sums

    def row_sums(self, packed: Sequence[PackedRows], num_rows: int, keys: Sequence[tuple[int, int]]) -> torch.Tensor:
        return torch.cat([self.sums[key] for key in keys])
