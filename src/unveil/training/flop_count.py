"""Floating-point operations of a network that is run, forward and backward, by the formulas of `unveil.planning`.

For a LLaDA they are those of its matrices; for another network, of its linear layers and attention. Adapters count as
they sit: frozen matrices cost the backward pass of their inputs alone.
"""

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from unveil.likelihood import PackedRows
from unveil.models import LLaDAConfig, unwrap
from unveil.planning.flops import Work, backward, forward, recomputed
from unveil.planning.shape import HEAD, Adapters, Shape


def work_of_parts(parts: Iterable[PackedRows]) -> Work:
    """What packed rows make a network read."""
    tokens = squares = hidden = 0
    for part in parts:
        tokens += part.num_tokens
        squares += sum(length**2 for length in part.segment_lengths)
        hidden += sum(part.hidden_counts)
    return Work(tokens, squares, hidden)


class FlopCount:
    """Counts what one network computes.

    Args:
        model: as it is trained or asked, wrappers included.
        adapted: count its adapters, if it has some; else it runs with adapters switched off.
    """

    def __init__(self, model: nn.Module, adapted: bool = True) -> None:
        config: Any = unwrap(model).config
        self.shape = Shape.of(config) if isinstance(config, LLaDAConfig) else None
        self.adapters = _adapters_of(model, self.shape) if self.shape and adapted else None
        if self.shape is None:
            head = unwrap(model).get_output_embeddings()
            linears = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
            weights = [(m.weight.numel(), m.weight.requires_grad) for m in linears]
            self._body = sum(size for size, _ in weights)
            self._trained = sum(size for size, trained in weights if trained)
            weight: Any = getattr(head, "weight", None)
            self._head = 0 if weight is None else weight.numel()
            self._head_trained = self._head * bool(weight is not None and weight.requires_grad)
            self._attended = 4 * int(getattr(config, "hidden_size", 0)) * int(getattr(config, "num_hidden_layers", 0))

    def forward(self, work: Work) -> float:
        """One forward pass."""
        if self.shape is not None:
            return forward(self.shape, work, self.adapters).total
        return 2 * work.tokens * self._body + work.squares * self._attended + 2 * work.hidden * self._head

    def backward(self, work: Work, checkpointed: bool = False) -> float:
        """The backward pass that follows, with the forward pass of the blocks that checkpointing repeats."""
        if self.shape is not None:
            again = recomputed(self.shape, work, self.adapters).total if checkpointed else 0.0
            return backward(self.shape, work, self.adapters).total + again
        again = 2 * work.tokens * self._body + work.squares * self._attended if checkpointed else 0.0
        body = 2 * work.tokens * (self._body + self._trained) + 2 * work.squares * self._attended
        return body + 2 * work.hidden * (self._head + self._head_trained) + again


def _adapters_of(model: nn.Module, shape: Shape) -> Adapters | None:
    """The adapters as peft put them, or None."""
    blocks: list[set[str]] = [set() for _ in range(shape.layers)]
    ranks, head = [], False
    for name, module in model.named_modules():
        adapted: Any = getattr(module, "lora_A", None)
        if not adapted:
            continue
        ranks += [matrix.out_features for matrix in adapted.values()]
        place = re.search(r"blocks\.(\d+)\.(\w+)$", name)
        if place is not None:
            blocks[int(place[1])].add(place[2])
        head = head or name.endswith(HEAD)
    return Adapters(max(ranks), tuple(map(frozenset, blocks)), head) if ranks else None
