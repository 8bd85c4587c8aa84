"""The variable-length kernels are called with what a packed stream is, and only where they can work."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from unveil.errors import UserError
from unveil.models import Denoiser, KeyValues, attention, load_denoiser_model, varlen

LENGTHS = [5, 5, 9, 1, 3, 3]
IDS = torch.randint(2, 260, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(2))


def reference_kernel(calls):
    """What flash-attention computes, segment by segment, remembering its arguments."""

    def kernel(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, enable_gqa=False, causal=False):
        assert not causal
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        calls.append((cu_seqlens_q.tolist(), max_seqlen_q, q.shape[1] // k.shape[1]))
        sizes, key_sizes = cu_seqlens_q.diff().tolist(), cu_seqlens_k.diff().tolist()
        assert (max(sizes), max(key_sizes)) == (max_seqlen_q, max_seqlen_k)
        parts = zip(*(x.transpose(0, 1).split(n, dim=1) for x, n in ((q, sizes), (k, key_sizes), (v, key_sizes))))
        shared = q.shape[1] != k.shape[1]
        out = [F.scaled_dot_product_attention(*part, enable_gqa=shared) for part in parts]
        return torch.cat(out, dim=1).transpose(0, 1)

    return kernel


@pytest.fixture
def calls(monkeypatch) -> list:
    """Both kernels replaced by the reference, taken for possible on this device."""
    seen: list = []
    monkeypatch.setattr(attention, "refusal", lambda *_: None)
    monkeypatch.setattr(varlen, "varlen_attn", reference_kernel(seen))
    monkeypatch.setattr(varlen, "flash_kernel", lambda name: reference_kernel(seen))
    return seen


def using(model, name: str):
    model.config._attn_implementation = name
    return model


def gradients(model, logits):
    return torch.autograd.grad(logits.square().sum(), list(model.parameters()))


@pytest.mark.parametrize("name", ["varlen", "flash_attention_2", "kernels-community/flash-attn2"])
@pytest.mark.parametrize("fields", [{}, {"n_kv_heads": 2}])
def test_a_packed_stream_is_one_call_per_block_and_equals_sdpa(tiny_llada, calls, name, fields):
    plain = tiny_llada(dtype=torch.float64, **fields)
    expected = using(plain, "sdpa")(input_ids=IDS, segment_lengths=LENGTHS).logits
    assert calls == []
    model = using(tiny_llada(dtype=torch.float64, **fields), name)
    found = model(input_ids=IDS, segment_lengths=LENGTHS).logits
    assert calls == [([0, 5, 10, 19, 20, 23, 26], 9, 2 if fields else 1)] * 2
    assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(gradients(model, found), gradients(plain, expected)):
        assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_key_value_heads_are_repeated_for_a_torch_whose_kernel_does_not_share_them(tiny_llada, calls, monkeypatch):
    monkeypatch.setattr(varlen, "_SHARES_HEADS", False)
    fields = {"dtype": torch.float64, "n_kv_heads": 2}
    found = using(tiny_llada(**fields), "varlen")(input_ids=IDS, segment_lengths=LENGTHS).logits
    assert {groups for _, _, groups in calls} == {1}
    assert_close(found, using(tiny_llada(**fields), "sdpa")(input_ids=IDS, segment_lengths=LENGTHS).logits)


def test_a_batch_of_equal_rows_is_a_stream_too_and_a_padded_one_is_not(tiny_llada, calls):
    model, batch = using(tiny_llada(), "varlen"), IDS[:, :24].view(4, 6)
    found = model(input_ids=batch).logits
    assert calls == [([0, 6, 12, 18, 24], 6, 1)] * 2
    assert_close(found, using(model, "sdpa")(input_ids=batch).logits)
    calls.clear()
    mask = torch.arange(6) < torch.tensor([[6], [2], [3], [6]])
    using(model, "varlen")(input_ids=batch, attention_mask=mask.long())
    assert calls == []


def test_kept_keys_have_ends_of_their_own(tiny_llada, calls):
    denoiser = Denoiser(tiny_llada())
    index, counts = torch.tensor([3, 7, 8, 12, 13, 19, 20, 24]), [1, 2, 2, 1, 1, 1]
    places = index - torch.tensor([0, 5, 5, 10, 10, 19, 20, 23])
    found = []
    with torch.no_grad():
        for name in ("sdpa", "varlen"):
            using(denoiser.model, name)
            kept = KeyValues(LENGTHS)
            denoiser.logits_with(kept, IDS, LENGTHS, index)
            part = (IDS[:, index], counts, torch.arange(8), index, places[None])
            found.append(denoiser.logits_with(kept, *part))
    assert_close(*found)
    assert calls[-1][:2] == ([0, 1, 3, 5, 6, 7, 8], 2)


def test_it_is_chosen_without_being_asked_where_lengths_differ(tiny_llada, calls, monkeypatch):
    model = tiny_llada()
    assert model.config._attn_implementation == "auto"
    on_cuda = attention.Layout

    class OnCuda(on_cuda):
        def __init__(self, runs, mask, cos, sin, attention, *kept):
            super().__init__(runs, mask, cos, sin, "varlen" if attention == "auto" else attention, *kept)
            self.attention = attention

    monkeypatch.setattr("unveil.models.modeling_llada.Layout", OnCuda)
    model(input_ids=IDS, segment_lengths=LENGTHS)
    assert len(calls) == 2
    model(input_ids=IDS, segment_lengths=[13, 13])  # one dense batch
    assert len(calls) == 2
    using(model, "sdpa")(input_ids=IDS, segment_lengths=[13, 13])
    assert len(calls) == 2


def test_on_this_device_nothing_of_it_is_used_unless_asked_for(tiny_llada, monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", None)
    tiny_llada()(input_ids=IDS, segment_lengths=LENGTHS)
    with pytest.raises(ValueError, match="'varlen' needs a CUDA device, the model is on cpu; leave"):
        using(tiny_llada(), "varlen")(input_ids=IDS, segment_lengths=LENGTHS)


class FakeQueries:
    device = torch.device("cuda")

    def __init__(self, dtype, width):
        self.dtype, self.shape = dtype, (26, 4, width)


@pytest.mark.parametrize(
    ("dtype", "width", "dropout", "said"),
    [
        (torch.bfloat16, 64, 0.0, None),
        (torch.float16, 256, 0.0, None),
        (torch.float32, 64, 0.0, "bfloat16 or float16"),
        (torch.bfloat16, 260, 0.0, "at most 256"),
        (torch.bfloat16, 12, 0.0, "multiple of 8"),
        (torch.bfloat16, 64, 0.1, "no dropout"),
    ],
)
def test_what_the_kernels_take(dtype, width, dropout, said):
    found = varlen.refusal("auto", FakeQueries(dtype, width), dropout)
    assert found is None if said is None else said in found


def test_an_older_torch_has_flash_attention_only(monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", None)
    queries = FakeQueries(torch.bfloat16, 64)
    assert "this torch lacks" in varlen.refusal("auto", queries, 0.0)
    assert varlen.refusal("flash_attention_2", queries, 0.0) is None


def test_names_are_those_of_transformers_and_varlen(tiny_llada, tmp_path):
    model = tiny_llada()
    model.save_pretrained(tmp_path)
    for name in (None, "sdpa", "varlen"):
        loaded = load_denoiser_model(tmp_path, attn_implementation=name)
        assert loaded.config._attn_implementation == (name or "auto")
    model.set_attn_implementation("sdpa")
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(UserError, match="--attn_implementation flex_attention: LLaDA computes attention with"):
        load_denoiser_model(tmp_path, attn_implementation="flex_attention")


def test_the_real_kernel_equals_sdpa(tiny_llada):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = tiny_llada(dtype=torch.bfloat16).cuda()
    ids = IDS.cuda()
    found = using(model, "varlen")(input_ids=ids, segment_lengths=LENGTHS).logits
    expected = using(model, "sdpa")(input_ids=ids, segment_lengths=LENGTHS).logits
    assert_close(found, expected, rtol=0.02, atol=0.02)
