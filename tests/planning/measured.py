"""What torch counts while a model runs: operations, and the bytes that a graph keeps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unveil.draws import plan
from unveil.likelihood import PackedRows, Response, build_rows, pack


def counted_flops(call: Callable[[], object]) -> int:
    """Operations of matrix products, attention as plain products (its kernel on the CPU is not in the registry)."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops()


class Saved:
    """Bytes of the storages that autograd keeps, weights and their casts apart."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.shapes = {shape for p in model.parameters() for shape in (tuple(p.shape), tuple(p.t().shape))}
        self.storages: dict[int, torch.UntypedStorage] = {}

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.weights and tuple(tensor.shape) not in self.shapes:
            self.storages[storage.data_ptr()] = storage  # held, so that no other tensor takes its address
        return tensor

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


@contextmanager
def saved_tensors(model: torch.nn.Module) -> Iterator[Saved]:
    """Inside, everything that graphs keep is counted."""
    saved = Saved(model)
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        yield saved


def packed_rows(sizes: list[tuple[int, int]], num_draws: int = 4) -> PackedRows:
    """All draws of answers of (prompt, completion) tokens in one stream."""
    answers = [Response(i, [5] * prompt, [6] * answer) for i, (prompt, answer) in enumerate(sizes)]
    rows = build_rows(answers, [plan(0, a.example_id, 0, a.length, num_draws) for a in answers], 1)
    return pack(rows, range(len(rows)))
