"""`torch.compile` of the blocks or of the whole model: same numbers, and no graph per list of lengths."""

import random
import shutil

import pytest
import torch
from torch._dynamo.utils import counters
from torch.testing import assert_close

from unveil.models import Denoiser

# torch asks every tensor at a graph break for its gradient, and hides the warning in a way that `error` does not see.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
    pytest.mark.slow,
    pytest.mark.timeout(900),
]


def batches(count: int):
    """Streams of 1 to 7 different lengths, as micro-batches are."""
    draw = random.Random(0)
    for number in range(count):
        lengths = [draw.randint(2, 30) for _ in range(1 + number % 7)]
        if number % 3 == 0:
            lengths = lengths[:1] * len(lengths)
        ids = torch.tensor([[draw.randrange(2, 260) for _ in range(sum(lengths))]])
        yield ids, lengths, torch.tensor(sorted(draw.sample(range(sum(lengths)), min(5, sum(lengths)))))


def compiled(model, whole: bool, backend: str):
    if whole:
        return torch.compile(model, backend=backend)
    for block in model.model.transformer["blocks"]:
        block.compile(backend=backend)
    return model


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_lengths_do_not_recompile_without_end(tiny_llada, backend, whole):
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("inductor needs a C++ compiler")
    torch._dynamo.reset()
    counters.clear()
    plain, model = tiny_llada(), tiny_llada()
    denoiser, graphs = Denoiser(compiled(model, whole, backend)), []
    try:
        for ids, lengths, index in batches(24):
            for found in (denoiser.logits_at(ids, lengths, index), Denoiser(plain).logits_at(ids, lengths, index)):
                found.square().mean().backward()
            graphs.append(counters["stats"]["unique_graphs"])
        for ours, theirs in zip(model.parameters(), plain.parameters()):
            assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    finally:
        torch._dynamo.reset()
    assert graphs[0] > 0
    assert graphs[-1] == graphs[11]
    assert graphs[-1] <= 24
