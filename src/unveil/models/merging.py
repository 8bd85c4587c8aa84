"""Merge adapters into the weights of their base, and say what rounding took.

A weight of bfloat16 has 8 bits: what moves it by less than half a step of its own is lost. So the sum is formed in
float32, or wider, and rounded once; `Kept` compares the change that was meant with the one that is left.
"""

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from unveil.errors import UserError, first_line

ENOUGH = 0.99
"""Of an update: what less than this is left of has lost something that is worth a word."""


class Kept(NamedTuple):
    """What a merge left, over all numbers of the merged weights."""

    share: float
    """<meant, left> / <meant, meant>: how much of the update is left along its own direction; 1 if nothing was lost."""
    changed: float
    """Share of the numbers that differ from the base's."""
    numbers: int
    """How many numbers the merged weights have."""
    untied: bool = False
    """Whether embedding and head were one matrix and no longer are."""


def merge_adapters(model: PeftModel, dtype: torch.dtype | None = None) -> tuple[PreTrainedModel, Kept]:
    """The base model with the adapters in its weights, which are `dtype` (None: as they are), and what is left of them.

    The adapters' own model is used up; one layer at a time is wide. Where embedding and head are one matrix and either
    is adapted, they become two, as they were two functions in training.

    Raises:
        UserError: adapters of a kind that has no sum with the weights.
    """
    base = cast(PreTrainedModel, model.get_base_model())
    dtype = dtype or base.dtype
    count = _Count()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that layers are merged already, and that the embedding is tied no longer
        untied = _untie(base)
        try:
            for layer in _adapted(base):
                _merge_layer(layer, dtype, count)
            merged = cast(PreTrainedModel, cast(Any, model).merge_and_unload())
        except (ValueError, AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
            raise UserError(f"the adapters cannot be merged ({first_line(error)}); use them as they are") from error
    for parameter in merged.parameters():
        parameter.data = parameter.data.to(dtype)
    merged.config.dtype = dtype
    return merged, Kept(count.along / count.squared if count.squared else 1.0, count.share, count.numbers, untied)


def _adapted(base: nn.Module) -> Iterator[nn.Module]:
    return (module for module in base.modules() if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper))


def _merge_layer(layer: Any, dtype: torch.dtype, count: "_Count") -> None:
    """Sum one layer up in float32 or wider, and count what its rounding to `dtype` leaves."""
    before = {name: value.detach().clone() for name, value in _plain(layer, trained=False)}
    layer.to(torch.promote_types(dtype, torch.float32))
    if isinstance(layer, BaseTunerLayer):
        cast(Any, layer).merge()
    for name, value in _plain(layer, trained=True):
        count.add(before[name], value.data, dtype)


def _plain(layer: Any, trained: bool) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that a plain model has in this place: as they were, or as they are trained."""
    if isinstance(layer, BaseTunerLayer):
        return layer.get_base_layer().named_parameters()
    if trained and hasattr(layer, "modules_to_save"):
        return layer.modules_to_save[layer.active_adapters[0]].named_parameters()
    return layer.original_module.named_parameters()


class _Count:
    """Sums over the numbers of the merged weights."""

    def __init__(self) -> None:
        self.along = self.squared = 0.0
        self.changed = self.numbers = 0

    @property
    def share(self) -> float:
        return self.changed / self.numbers if self.numbers else 0.0

    def add(self, before: Tensor, meant: Tensor, dtype: torch.dtype) -> None:
        start = before.to(dtype).to(meant.dtype)
        if torch.equal(before.to(meant.dtype), meant):
            return  # a bias that no adapter reaches
        left, update = meant.to(dtype).to(meant.dtype) - start, meant - before.to(meant.dtype)
        self.along += (left * update).sum(dtype=torch.float64).item()
        self.squared += update.square().sum(dtype=torch.float64).item()
        self.changed += int((left != 0).sum())
        self.numbers += left.numel()


def _untie(base: PreTrainedModel) -> bool:
    """Give the head a matrix of its own if it shares one with the embedding and either is adapted."""
    ends = [base.get_input_embeddings(), base.get_output_embeddings()]
    if None in ends or not any(isinstance(end, BaseTunerLayer | AuxiliaryTrainingWrapper) for end in ends):
        return False
    seen: set[int] = set()
    found = False
    for module in base.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in seen:
                setattr(module, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
                found = True
            seen.add(id(parameter))
    if found:
        base.config.tie_word_embeddings = False
    return found
