"""The chunked head gives what full logits give, in values and gradients, and remembers nothing of the logits."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import BertConfig, BertForMaskedLM

from unveil.likelihood import Row, micro_batches
from unveil.likelihood.head import hidden_log_probs, weighted_log_probs
from unveil.models import Denoiser

V = 260
CHUNKS = [None, V * 8 * 5, 1]  # the default (here one chunk), five rows, one row


def random_rows(lengths, seed: int = 0) -> list[Row]:
    draw = np.random.default_rng(seed)
    rows = []
    for number, length in enumerate(lengths):
        ids = draw.integers(2, V, length)
        places = np.sort(draw.choice(length, draw.integers(1, length + 1), replace=False))
        masked = ids.copy()
        masked[places] = 1
        rows.append(Row(masked, places, ids[places], number, 0))
    return rows


def packed_rows(lengths=(9, 9, 4, 14, 4, 1), seed: int = 0):
    [packed] = micro_batches(random_rows(lengths, seed), 10**6)
    return packed


def weights_of(packed, dtype=torch.float64) -> torch.Tensor:
    return torch.linspace(-1, 2, len(packed.targets_N), dtype=dtype)


def naive(denoiser, packed) -> torch.Tensor:
    logits = denoiser.logits_at(packed.input_ids_1T, packed.segment_lengths, packed.index_N)
    return -F.cross_entropy(logits, packed.targets_N, reduction="none")


def gradients(model, value) -> list[torch.Tensor]:
    trained = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(value, trained, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(trained, found)]


def check(model, tolerance: float = 1e-10, dtype=torch.float64, tokens=(9, 9, 4, 14, 4, 1), **options):
    """Both uses against full logits, for every size of chunk."""
    packed, denoiser = packed_rows(tokens), Denoiser(model, **options)
    weights = weights_of(packed, dtype)
    log_p = naive(denoiser, packed)
    expected = gradients(model, (weights * log_p).sum())
    assert any(bool(gradient.any()) for gradient in expected)
    for chunk_bytes in CHUNKS:
        found = hidden_log_probs(denoiser, packed, chunk_bytes)
        total, detached = weighted_log_probs(denoiser, packed, weights, chunk_bytes)
        assert not detached.requires_grad
        assert_close(found, log_p, rtol=tolerance, atol=tolerance)
        assert_close(detached, log_p.detach(), rtol=tolerance, atol=tolerance)
        assert_close(total, (weights * log_p).sum(), rtol=10 * tolerance, atol=10 * tolerance)
        for value, factor in (((weights * found).sum(), 1), (3 * total, 3)):
            for ours, theirs in zip(gradients(model, value), expected):
                assert_close(ours, factor * theirs, rtol=tolerance, atol=factor * tolerance)
        with torch.no_grad():
            assert_close(hidden_log_probs(denoiser, packed, chunk_bytes), detached, rtol=0, atol=0)
            assert_close(weighted_log_probs(denoiser, packed, weights, chunk_bytes), (total.detach(), detached))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("fields", [{}, {"weight_tying": True}, {"include_bias": True}, {"scale_logits": True}])
def test_chunks_equal_full_logits(tiny_llada, dtype, fields):
    check(tiny_llada(dtype=dtype, **fields), 1e-10 if dtype == torch.float64 else 1e-5, dtype)


@pytest.mark.parametrize("frozen", ["head", "body"])
def test_a_frozen_part_gets_no_gradient(tiny_llada, frozen):
    model = tiny_llada(dtype=torch.float64)
    head = model.get_output_embeddings()
    model.requires_grad_(frozen == "head")
    head.requires_grad_(frozen != "head")
    check(model)
    packed = packed_rows()
    weighted_log_probs(Denoiser(model), packed, weights_of(packed), 1).total.backward()
    assert (head.weight.grad is None) == (frozen == "head")


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["ff_out", "q_proj"]},
        {"target_modules": ["ff_out", "wte"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["transformer.ff_out"]},
    ],
)
@pytest.mark.parametrize("tied", [False, True])
def test_lora_on_the_head(tiny_llada, options, tied):
    if tied and "modules_to_save" in options:
        pytest.skip("peft unties what it saves")
    model = tiny_llada(dtype=torch.float64, weight_tying=tied)
    with pytest.warns() if tied else torch.no_grad():  # peft warns of adapters on tied layers
        model = get_peft_model(model, LoraConfig(r=4, init_lora_weights=False, **options))
    assert any("ff_out" in name and p.requires_grad for name, p in model.named_parameters() if "blocks" not in name)
    check(model)


class SoftCapped(nn.Module):
    """A head in the manner of Gemma 2; `forward` tells the read-out of its cap."""

    def __init__(self, inner, cap: float, linear: bool) -> None:
        super().__init__()
        self.inner, self.cap, self.linear = inner, cap, linear

    def forward(self, hidden):
        return self.cap * torch.tanh(self.inner(hidden) / self.cap)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("hooked", [True, False])
def test_soft_capped_logits(tiny_llada, monkeypatch, known, hooked):
    """Told by the model, of a plain head and of one that is watched; and inside a head that nobody knows."""
    model = tiny_llada(dtype=torch.float64)
    head, cap = model.get_output_embeddings(), 0.4
    if hooked:
        head.register_forward_hook(lambda *_: None)
    model.set_output_embeddings(SoftCapped(head, cap, known))
    forward = type(model).forward

    def telling(self, *args, read_out=None, **kwargs):
        told = None if read_out is None else lambda module, hidden: read_out(module.inner, hidden, cap)
        return forward(self, *args, read_out=told, **kwargs)

    if known:
        monkeypatch.setattr(type(model), "forward", telling)
    check(model)


def test_a_model_that_does_not_read_out(tiny_llada):
    torch.manual_seed(0)
    config = BertConfig(vocab_size=V, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=40)
    check(BertForMaskedLM(config).double().eval(), mask_token_id=1)
    check(BertForMaskedLM(config).double().eval(), mask_token_id=1, logit_shift=1)


def test_logit_shift_reads_the_position_before(tiny_llada):
    check(tiny_llada(dtype=torch.float64), logit_shift=1)


def test_gradient_checkpointing_of_the_body_changes_nothing(tiny_llada):
    model = tiny_llada(dtype=torch.float64).train()
    with Denoiser(model).checkpointed():
        check(model)


def test_an_unlikely_token_keeps_its_log_probability(tiny_llada):
    """Its probability underflows in float32; its logarithm does not, nor does its gradient."""
    model, packed = tiny_llada(), packed_rows()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(3000)
    expected = naive(Denoiser(model.double()), packed)
    assert expected.min() < -200
    found = weighted_log_probs(Denoiser(model.float()), packed, weights_of(packed, torch.float32))
    assert_close(found.log_p_N.double(), expected.detach(), rtol=1e-4, atol=1e-2)
    found.total.backward()
    assert torch.isfinite(model.get_output_embeddings().weight.grad).all()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("use", ["hidden", "weighted"])
def test_bfloat16_logits_have_float32_log_probabilities(tiny_llada, autocast, use):
    model, packed = tiny_llada(dtype=torch.float32 if autocast else torch.bfloat16), packed_rows()
    denoiser, weights = Denoiser(model), weights_of(packed, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = denoiser.logits_at(packed.input_ids_1T, packed.segment_lengths, packed.index_N)
        assert logits.dtype == torch.bfloat16
        log_p = -F.cross_entropy(logits.float(), packed.targets_N, reduction="none")
        if use == "weighted":
            total, found = weighted_log_probs(denoiser, packed, weights, 8 * V * 4)
        else:
            found = hidden_log_probs(denoiser, packed, 8 * V * 4)
            total = (weights * found).sum()
    assert found.dtype == total.dtype == torch.float32
    assert_close(found.detach(), log_p.detach(), rtol=1e-5, atol=1e-5)
    expected = gradients(model, (weights * log_p).sum())
    for ours, theirs in zip(gradients(model, total), expected):
        assert ours.dtype == theirs.dtype
        assert (ours - theirs).norm() <= 0.03 * theirs.norm()


# -- hypothesis: packed = one by one ---------------------------------------------------------------------------------


def one_by_one(model, rows, per_row):
    """log p of each row from its own full logits, and the gradient of the weighted sum."""
    log_p = []
    for row in rows:
        logits = model(input_ids=torch.from_numpy(row.ids)[None]).logits[0, row.places]
        log_p.append(-F.cross_entropy(logits, torch.from_numpy(row.targets), reduction="none"))
    total = sum((torch.from_numpy(w).to(p) * p).sum() for w, p in zip(per_row, log_p))
    return log_p, gradients(model, total)


@pytest.mark.parametrize("use", ["hidden", "weighted"])
def test_packed_equals_one_by_one_in_any_order_and_any_packs(tiny_llada, use):
    model = tiny_llada(d_model=16, n_layers=1)
    denoiser = Denoiser(model)

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(st.integers(1, 24), min_size=1, max_size=8),
        st.integers(0, 2**31),
        st.integers(1, 60),
        st.sampled_from([None, V * 4 * 3, 1]),
        st.randoms(use_true_random=False),
    )
    def agree(lengths, seed, budget, chunk_bytes, shuffle):
        rows = random_rows(lengths, seed)
        shuffle.shuffle(rows)
        draw = np.random.default_rng(seed)
        per_row = [draw.normal(size=len(row.places)).astype(np.float32) for row in rows]
        log_p, expected = one_by_one(model, rows, per_row)
        model.zero_grad()
        for packed in micro_batches(rows, budget):
            weights = packed.in_stream(per_row)
            if use == "weighted":
                total, found = weighted_log_probs(denoiser, packed, weights, chunk_bytes)
            else:
                found = hidden_log_probs(denoiser, packed, chunk_bytes)
                total = (weights * found).sum()
            total.backward()
            assert_close(found.detach(), torch.cat([log_p[i] for i in packed.order]).detach(), rtol=1e-5, atol=1e-5)
        for parameter, theirs in zip(model.parameters(), expected):
            assert_close(parameter.grad, theirs, rtol=1e-4, atol=1e-5 * max(1.0, float(theirs.abs().max())))

    agree()


def test_padding_changes_nothing(tiny_llada):
    """The packed stream gives what a padded batch with its mask gives."""
    model = tiny_llada(dtype=torch.float64)
    rows = random_rows((9, 4, 14, 1))
    [packed] = micro_batches(rows, 10**6)
    chosen = [rows[i] for i in packed.order]
    ids = torch.zeros(4, 17, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(chosen):
        ids[number, : row.length], mask[number, : row.length] = torch.from_numpy(row.ids), 1
    logits = model(input_ids=ids, attention_mask=mask).logits
    parts = [F.log_softmax(logits[i, r.places], -1)[range(len(r.places)), r.targets] for i, r in enumerate(chosen)]
    weights = weights_of(packed)
    total, found = weighted_log_probs(Denoiser(model), packed, weights, V * 8 * 4)
    assert_close(found, torch.cat(parts).detach(), rtol=1e-10, atol=1e-10)
    expected = gradients(model, (weights * torch.cat(parts)).sum())
    for ours, theirs in zip(gradients(model, total), expected):
        assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


# -- memory ----------------------------------------------------------------------------------------------------------


def bytes_saved(run) -> int:
    """Bytes of distinct storages that autograd keeps for the backward pass of `run()`."""
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("head_is_trained", [True, False])
def test_bytes_saved_do_not_grow_with_the_vocabulary(tiny_llada, head_is_trained):
    packed, saved = packed_rows((40, 40, 30, 20)), {}
    for vocab in (260, 26_000):
        model = tiny_llada(vocab_size=vocab)
        head = model.get_output_embeddings().requires_grad_(head_is_trained)
        run = partial(weighted_log_probs, Denoiser(model), packed, weights_of(packed))
        weight = head.weight.nbytes if head_is_trained else 0
        saved[vocab] = bytes_saved(run) - weight
        assert saved[vocab] > 0
    assert saved[260] == saved[26_000]


def test_bytes_saved_do_not_grow_with_draws_or_batch(tiny_llada):
    """At one token budget the fullest micro-batch is what counts."""
    model, most = tiny_llada(), {}
    for copies in (1, 16):
        rows = random_rows([40, 31, 17, 24] * 4 * copies)
        batches = micro_batches(rows, 160)
        runs = (partial(weighted_log_probs, Denoiser(model), p, weights_of(p, torch.float32)) for p in batches)
        most[copies] = max(bytes_saved(run) for run in runs)
    assert most[16] <= 1.15 * most[1]


@pytest.mark.parametrize("use", [hidden_log_probs, weighted_log_probs])
@pytest.mark.parametrize("lora", [False, True])
def test_never_more_than_a_chunk_of_logits(tiny_llada, use, lora):
    model = tiny_llada(vocab_size=5000)
    model.requires_grad_(False)
    if lora:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["ff_out", "q_proj"]))
    else:
        model.model.transformer["blocks"].requires_grad_(True)
    packed, largest = packed_rows((40, 40, 30, 20)), []
    assert len(packed.targets_N) > 30

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            is_view = func in (torch.ops.aten.t.default, torch.ops.aten.transpose.int)  # of a weight
            if not is_view and isinstance(out, torch.Tensor) and out.shape[-1:] == (5000,) and out.dim() > 1:
                largest.append(out.numel() // 5000)
            return out

    weights = (weights_of(packed),) if use is weighted_log_probs else ()
    with Watch():
        found = use(Denoiser(model), packed, *weights, chunk_bytes=6 * 5000 * 4)
        (found.total if weights else found.sum()).backward()
    assert 2 <= max(largest) <= 6


def test_a_second_backward_is_refused_rather_than_wrong(tiny_llada):
    packed = packed_rows()
    total, _ = weighted_log_probs(Denoiser(tiny_llada()), packed, weights_of(packed))
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_weights_of_another_length_are_refused(tiny_llada):
    packed = packed_rows()
    with pytest.raises(ValueError, match="3 weights for"):
        weighted_log_probs(Denoiser(tiny_llada()), packed, torch.ones(3))


# -- distributed wrappers --------------------------------------------------------------------------------------------


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.usefixtures("one_process")
def test_hooks_of_ddp_see_the_gradients_of_the_head(tiny_llada, lora):
    inner = tiny_llada(dtype=torch.float64)
    if lora:
        inner = get_peft_model(inner, LoraConfig(r=4, target_modules=["ff_out", "q_proj"], init_lora_weights=False))
    packed = packed_rows()
    expected = gradients(inner, (weights_of(packed) * naive(Denoiser(inner), packed)).sum())
    model, reduced = nn.parallel.DistributedDataParallel(inner), []

    def hook(state, bucket):
        reduced.append(sum(p.numel() for p in bucket.parameters()))
        future = torch.futures.Future()
        future.set_result(bucket.buffer() * 2)
        return future

    model.register_comm_hook(None, hook)
    weighted_log_probs(Denoiser(model), packed, weights_of(packed), V * 8 * 5).total.backward()
    trained = [p for p in inner.parameters() if p.requires_grad]
    assert sum(reduced) == sum(p.numel() for p in trained)
    for parameter, theirs in zip(trained, expected):
        assert_close(parameter.grad, 2 * theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("one_process")
def test_values_keep_their_precision_when_fsdp_casts_what_forward_returns(tiny_llada):
    model, packed = tiny_llada(), packed_rows()
    mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, output_dtype=torch.bfloat16)
    for module in (*model.model.transformer["blocks"], model):
        fully_shard(module, mesh=mesh, mp_policy=policy)
    weights = weights_of(packed, torch.float32)
    total, log_p = weighted_log_probs(Denoiser(model), packed, weights, V * 4 * 5)
    assert total.dtype == log_p.dtype == torch.float32
    assert_close(total.detach(), (weights * log_p).sum())
    assert (log_p.bfloat16().float() != log_p).any()
    total.backward()
    found = [p.grad.full_tensor() for p in model.parameters()]
    model.zero_grad()
    values = hidden_log_probs(Denoiser(model), packed, V * 4 * 5)
    assert torch.equal(values.detach(), log_p)
    (weights * values).sum().backward()
    for parameter, gradient in zip(model.parameters(), found):
        assert (parameter.grad.full_tensor() - gradient).norm() <= 0.03 * gradient.norm()
