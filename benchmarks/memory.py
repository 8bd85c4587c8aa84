"""Peak bytes of the tensors that a computation makes: counted, not sampled, so equal on every run.

Every operator's outputs are seen by a dispatch mode; a storage counts from the moment an operator returns it until it
is freed. Storages that existed before (weights, preallocated gradients, inputs) do not count. Scratch space inside a
single kernel is not seen.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """`now` and `peak`: bytes of live storages made inside the `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()  # ids of storages alive; an id returns to use only after its storage has died

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor):
                self._meet(leaf, counts=False)
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._meet(leaf, counts=True)
        return out

    def _meet(self, tensor: torch.Tensor, counts: bool) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._known:
            return
        size = storage.nbytes() if counts else 0
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def peak_bytes(model: torch.nn.Module, work: Callable[[], object]) -> int:
    """Peak bytes above weights and gradients (gradients are made before, so that they accumulate in place)."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    with LiveBytes() as counter:
        work()
    return counter.peak
