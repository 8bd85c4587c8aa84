"""Gradient checkpointing and LoRA change how gradients are computed or which, never their values."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.testing import assert_close

from unveil.models import LORA_TARGETS, Denoiser

LENGTHS = [6, 6, 9]
INDEX = torch.tensor([0, 5, 7, 20])


def loss_of(model) -> torch.Tensor:
    ids = torch.arange(2, 23)[None]
    logits = model(input_ids=ids, segment_lengths=LENGTHS, logits_to_keep=INDEX).logits[0]
    return torch.nn.functional.cross_entropy(logits.float(), ids[0, INDEX])


def gradients(model) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss_of(model).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_identical_gradients(tiny_llada, dtype, reentrant):
    model = tiny_llada(dtype=dtype).train()
    calls = []
    model.model.transformer["blocks"][0].ff_proj.register_forward_hook(lambda *_: calls.append(1))
    expected = gradients(model)
    assert len(calls) == 1
    assert len(expected) == 9 * 2 + 3
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    found = gradients(model)
    assert len(calls) == 3  # one forward, one recomputation
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name
    model.gradient_checkpointing_disable()
    gradients(model)
    assert len(calls) == 4


def test_checkpointing_may_be_on_for_one_micro_batch(tiny_llada):
    model = tiny_llada().train()
    denoiser, calls = Denoiser(model), []
    model.model.transformer["blocks"][0].ff_proj.register_forward_hook(lambda *_: calls.append(1))
    expected = gradients(model)
    found = {}
    for on, forwards in ((True, 2), (False, 1)):
        calls.clear()
        model.zero_grad()
        with denoiser.checkpointed(on):
            loss = loss_of(model)
        loss.backward()  # outside: the graph remembers
        assert len(calls) == forwards
        found = {name: p.grad.clone() for name, p in model.named_parameters()}
        assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with denoiser.checkpointed():
        pass
    calls.clear()
    gradients(model)
    assert len(calls) == 2  # what was on stays on


def test_checkpointing_a_micro_batch_keeps_less(tiny_llada):
    model, kept = tiny_llada().train(), []
    for on in (False, True):
        saved: list[torch.Tensor] = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda x, s=saved: s.append(x) or x, lambda x: x)
        with hooks, Denoiser(model).checkpointed(on):
            loss_of(model)
        kept.append(sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in saved}.values()))
    assert kept[1] < kept[0] / 2


def adapted(model, **options):
    return get_peft_model(model, LoraConfig(r=4, target_modules=LORA_TARGETS, init_lora_weights=False, **options))


def test_lora_targets_are_the_seven_projections_of_each_block_and_not_the_head(tiny_llada):
    model = adapted(tiny_llada())
    names = sorted(name.split(".lora_A")[0] for name, _ in model.named_parameters() if "lora_A" in name)
    projections = ["attn_out", "ff_out", "ff_proj", "k_proj", "q_proj", "up_proj", "v_proj"]
    prefix = "base_model.model.model.transformer.blocks."
    assert names == [f"{prefix}{layer}.{name}" for layer in (0, 1) for name in projections]


@pytest.mark.parametrize("task", [None, "CAUSAL_LM", "FEATURE_EXTRACTION"])
def test_lora_trains_only_the_adapters_packed_or_not(tiny_llada, task):
    model = adapted(tiny_llada(), task_type=task).train()
    grads = gradients(model)
    assert len(grads) == 2 * 7 * 2
    assert all("lora_" in name for name in grads)
    assert all(bool(gradient.any()) for gradient in grads.values())


def test_lora_with_gradient_checkpointing_gives_the_same_gradients(tiny_llada):
    model = adapted(tiny_llada()).train()
    expected = gradients(model)
    model.get_base_model().gradient_checkpointing_enable()
    for name, gradient in gradients(model).items():
        assert_close(gradient, expected[name], rtol=0, atol=0)


def test_switching_the_adapter_off_gives_back_the_base_model(tiny_llada):
    model, base = adapted(tiny_llada()), tiny_llada()
    with torch.no_grad():
        assert loss_of(model) != loss_of(base)
        with model.disable_adapter():
            assert loss_of(model) == loss_of(base)
