"""The formula of activations against what autograd keeps, and the static part against its parts."""

import pytest
import torch
from measured import packed_rows, saved_tensors

from unveil.models import Denoiser, LLaDAConfig
from unveil.planning import (
    Adapters,
    Method,
    Precision,
    Shape,
    fused_bytes_per_token,
    saved_bytes_per_token,
    static_memory,
)
from unveil.training import add_adapters

TOLERANCE = 0.05
MODEL = {"d_model": 64, "n_layers": 4, "n_heads": 4, "mlp_hidden_size": 160, "vocab_size": 300}
SETTINGS = {
    "float32": (torch.float32, False),
    "bfloat16": (torch.bfloat16, False),
    "float32 under autocast": (torch.float32, True),
    "bfloat16 under autocast": (torch.bfloat16, True),
}


def saved_per_token(model, packed, autocast: bool) -> float:
    """Without the head: its part is that of a chunk of logits."""
    denoiser = Denoiser(model.train())
    keep = packed.index_N
    inner = denoiser.model.get_base_model() if hasattr(denoiser.model, "get_base_model") else denoiser.model
    with saved_tensors(model) as saved, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = inner.model(packed.input_ids_1T, segment_lengths=packed.segment_lengths, keep=keep).last_hidden_state
    assert out.requires_grad
    return saved.bytes / packed.num_tokens


@pytest.mark.parametrize("lora", [False, True], ids=["full", "LoRA"])
@pytest.mark.parametrize("case", SETTINGS)
def test_saved_bytes_per_token(case, lora, tiny_llada):
    dtype, autocast = SETTINGS[case]
    model, packed = tiny_llada(dtype=dtype, **MODEL), packed_rows([(40, 60)])
    shape = Shape.of(model.config)
    adapters = Adapters.on(shape, 4) if lora else None
    policy = add_adapters(model, 4, dropout=0.0) if lora else model
    share = len(packed.targets_N) / packed.num_tokens
    planned = saved_bytes_per_token(shape, Method("", Precision(dtype.itemsize, autocast), adapters), share)
    assert saved_per_token(policy, packed, autocast) == pytest.approx(planned, rel=TOLERANCE)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "LoRA"])
def test_many_lengths_on_the_cpu_keep_one_copy_more(lora, tiny_llada):
    """There attention runs length by length and its results are put together; a kernel for all lengths does not."""
    model, packed = tiny_llada(**MODEL), packed_rows([(40, 60), (20, 30), (7, 12)])
    shape = Shape.of(model.config)
    adapters = Adapters.on(shape, 4) if lora else None
    policy = add_adapters(model, 4, dropout=0.0) if lora else model
    share = len(packed.targets_N) / packed.num_tokens
    planned = saved_bytes_per_token(shape, Method("", Precision(), adapters), share) + 4 * 64 * (3 + share)
    assert saved_per_token(policy, packed, False) == pytest.approx(planned, rel=TOLERANCE)


def test_eight_billion_keeps_what_the_literature_says():
    """Spec: 5.2 MB per token in bfloat16 with fused norms, 6 to 7 as operations run one by one."""
    shape = Shape.of(LLaDAConfig())
    assert fused_bytes_per_token(shape, Precision(2)) == pytest.approx(5.2e6, rel=0.02)
    assert 6e6 < saved_bytes_per_token(shape, Method("", Precision(2)), 0.22) < 7e6


@pytest.mark.parametrize("lora", [False, True], ids=["full", "LoRA"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_gradients_and_states_are_those_of_adamw(dtype, lora, tiny_llada):
    model = tiny_llada(dtype=dtype, **MODEL)
    shape = Shape.of(model.config)
    policy = add_adapters(model, 4) if lora else model
    planned = static_memory(
        shape, Method("", Precision(dtype.itemsize), Adapters.on(shape, 4) if lora else None, second_model=not lora)
    )
    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [s for state in optimizer.state.values() for name, s in state.items() if name != "step"]
    assert planned.weights == sum(p.nbytes for p in policy.parameters())
    assert planned.gradients == sum(p.grad.nbytes for p in trained)
    assert planned.optimizer == sum(moment.nbytes for moment in moments)
    assert planned.reference == (0 if lora else sum(p.nbytes for p in model.parameters()))


def test_sharding_divides_what_is_held(tiny_llada):
    shape = Shape.of(LLaDAConfig())
    method = Method("full", Precision(4, True), second_model=True)
    one, ddp, sharded = (static_memory(shape, method, name, 8) for name in ("one", "ddp", "fsdp2"))
    assert sharded[:4] == pytest.approx([part / 8 for part in one[:4]])
    assert ddp.buffers == one.buffers + one.gradients
    assert one.buffers == 2 * (shape.layers * shape.block_linears + shape.embedding)  # bfloat16 copies
