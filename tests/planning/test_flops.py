"""The formula counts what torch counts."""

import pytest
import torch
from measured import counted_flops, packed_rows

from unveil.likelihood import hidden_log_probs, weighted_log_probs
from unveil.models import Denoiser, LLaDAConfig
from unveil.planning import Adapters, Shape, Work, backward, forward, padded
from unveil.training import add_adapters

SIZES = [(20, 30), (7, 12), (40, 3)]
MODELS = {
    "plain": {},
    "tied": {"weight_tying": True},
    "grouped queries": {"n_kv_heads": 2},
    "three layers, large vocabulary": {"n_layers": 3, "vocab_size": 900},
}


def work_of(packed) -> Work:
    return Work(
        sum(packed.segment_lengths), sum(length**2 for length in packed.segment_lengths), sum(packed.hidden_counts)
    )


@pytest.mark.parametrize("case", MODELS)
def test_forward_and_backward_of_all_weights(case, tiny_llada):
    model = tiny_llada(**MODELS[case])
    shape, packed = Shape.of(model.config), packed_rows(SIZES)
    work = work_of(packed)
    with torch.no_grad():
        seen = counted_flops(lambda: hidden_log_probs(Denoiser(model), packed))
    assert seen == forward(shape, work).total
    weights_N = torch.ones(len(packed.targets_N))
    seen = counted_flops(lambda: weighted_log_probs(Denoiser(model), packed, weights_N).total.backward())
    assert seen == forward(shape, work).total + backward(shape, work).total


@pytest.mark.parametrize(
    "targets",
    [
        None,
        ["q_proj", "k_proj", "v_proj"],
        ["blocks.1.v_proj", "blocks.1.q_proj", "blocks.1.k_proj", "blocks.2.ff_out"],
        [r"blocks.1.ff_proj"],
        [r"blocks.1.attn_out"],
    ],
    ids=str,
)
def test_forward_and_backward_of_adapters(targets, tiny_llada):
    model = tiny_llada(n_layers=3)
    shape, packed = Shape.of(model.config), packed_rows(SIZES)
    work, adapters = work_of(packed), Adapters.on(shape, 4, targets)
    adapted = Denoiser(add_adapters(model, 4, dropout=0.0, target_modules=targets))
    with torch.no_grad():
        assert counted_flops(lambda: hidden_log_probs(adapted, packed)) == forward(shape, work, adapters).total
    weights_N = torch.ones(len(packed.targets_N))
    seen = counted_flops(lambda: weighted_log_probs(adapted, packed, weights_N).total.backward())
    assert seen == pytest.approx(forward(shape, work, adapters).total + backward(shape, work, adapters).total, rel=0.01)


def test_the_published_step_of_eight_billion_costs_what_the_literature_says():
    """Spec: 70.2 TFLOP forward per row of 4096, 277 with backward and recomputation; 2.21 PFLOP for 8 draws."""
    shape = Shape.of(LLaDAConfig())
    row = Work(4096, 4096**2, 4096)
    assert forward(shape, row).total == pytest.approx(70.2e12, rel=2e-3)
    assert padded(shape, 1, 4096).total == pytest.approx(277e12, rel=2e-3)
    assert padded(shape, 8, 4096).total == pytest.approx(2.21e15, rel=3e-3)
