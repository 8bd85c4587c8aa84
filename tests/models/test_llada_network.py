"""The network computes what LLaDA computes: compared with a second implementation written from the formulas."""

import math

import pytest
import torch
from torch.testing import assert_close

from unveil.errors import UserError
from unveil.models import LLaDAConfig, LLaDAModelLM
from unveil.models.attention import Layout, rotary_tables, rotate
from unveil.models.modeling_llada import LLaDARMSNorm


def reference_logits(model: LLaDAModelLM, ids: torch.Tensor) -> torch.Tensor:
    """LLaDA on one sequence [T] from its tensors, head by head and position by position, in plain algebra."""
    config, tensors = (
        model.config,
        {name.removeprefix("model.transformer."): p for name, p in model.named_parameters()},
    )
    size = config.d_model // config.n_heads

    def norm(x, name):
        rows = torch.stack([row / math.sqrt(float(row @ row) / len(row) + config.rms_norm_eps) for row in x])
        return rows * tensors[name + ".weight"] + tensors.get(name + ".bias", 0.0)

    def linear(x, name):
        return x @ tensors[name + ".weight"].T + tensors.get(name + ".bias", 0.0)

    def rope(x):  # [T, size]: turn the plane (i, i + size/2) by the angle t * theta^(-2i/size)
        out = x.clone()
        for t in range(len(x)):
            for i in range(size // 2):
                angle = t * config.rope_theta ** (-2 * i / size)
                a, b = x[t, i], x[t, i + size // 2]
                out[t, i] = a * math.cos(angle) - b * math.sin(angle)
                out[t, i + size // 2] = a * math.sin(angle) + b * math.cos(angle)
        return out

    x = tensors["wte.weight"][ids]
    if config.input_emb_norm:
        x = x * math.sqrt(config.d_model)
    for layer in range(config.n_layers):
        block = f"blocks.{layer}."
        h = norm(x, block + "attn_norm")
        q, k, v = (linear(h, block + name).split(size, dim=-1) for name in ("q_proj", "k_proj", "v_proj"))
        heads = []
        for head in range(config.n_heads):
            shared = head * config.n_kv_heads // config.n_heads
            scores = rope(q[head]) @ rope(k[shared]).T / math.sqrt(size)
            heads.append(scores.softmax(dim=-1) @ v[shared])
        x = x + linear(torch.cat(heads, dim=-1), block + "attn_out")
        h = norm(x, block + "ff_norm")
        gate = linear(h, block + "ff_proj")
        x = x + linear(gate / (1 + torch.exp(-gate)) * linear(h, block + "up_proj"), block + "ff_out")
    logits = linear(norm(x, "ln_f"), "wte" if config.weight_tying else "ff_out")
    return logits / math.sqrt(config.d_model) if config.scale_logits else logits


def random_ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, 260, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n_kv_heads": 2},
        {"multi_query_attention": True},
        {"weight_tying": True},
        {"include_bias": True, "bias_for_layer_norm": True},
        {"include_qkv_bias": True},
        {"scale_logits": True, "input_emb_norm": True},
        {"mlp_hidden_size": None, "mlp_ratio": 2, "embedding_size": 264, "rope_theta": 10000, "rms_norm_eps": 1e-3},
        {"init_fn": "normal", "init_std": 0.3},
    ],
)
def test_logits_agree_with_a_second_implementation(tiny_llada, fields):
    model = tiny_llada(dtype=torch.float64, **fields)
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases away from 1 and 0, where mistakes would not show
            parameter.add_(0.1 * torch.randn_like(parameter))
        ids = random_ids(11)
        expected = reference_logits(model, ids)
        found = model(input_ids=ids[None]).logits[0]
    assert found.shape == (11, model.config.embedding_size)
    assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_rope_pairs_channel_i_with_channel_i_plus_half():
    positions, size, theta = torch.tensor([0, 1, 7, 300]), 6, 500000.0
    x = torch.randn(4, 2, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layout = Layout(((1, 4),), None, *rotary_tables(positions, size, theta, torch.float64))
    frequency = theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    turned = torch.complex(x[..., : size // 2], x[..., size // 2 :]) * torch.exp(
        1j * positions[:, None, None] * frequency
    )
    assert_close(rotate(x, layout), torch.cat([turned.real, turned.imag], dim=-1), rtol=1e-12, atol=1e-12)


def test_angles_are_computed_in_float32_even_for_bfloat16_tables():
    positions = torch.tensor([1001, 4093])  # bfloat16 has no such integers
    narrow, wide = (rotary_tables(positions, 8, 500000.0, dtype) for dtype in (torch.bfloat16, torch.float32))
    assert all(torch.equal(a, b.to(torch.bfloat16)) for a, b in zip(narrow, wide))


def test_rope_is_float32_in_a_bfloat16_model_and_bfloat16_if_the_config_says_so(tiny_llada):
    seen = []
    for full_precision in (True, False):
        model = tiny_llada(dtype=torch.bfloat16, rope_full_precision=full_precision)
        model.model.transformer["blocks"][0].register_forward_pre_hook(lambda _, args: seen.append(args[1].cos.dtype))
        assert model(input_ids=random_ids(1, 9)).logits.dtype == torch.bfloat16
    assert seen == [torch.float32, torch.bfloat16]


def test_rms_norm_is_computed_in_float32_then_cast_then_scaled():
    norm = LLaDARMSNorm(LLaDAConfig(d_model=64, n_heads=4)).to(torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 64, generator=generator).to(torch.bfloat16)
    with torch.no_grad():
        norm.weight.copy_(1 + 0.2 * torch.randn(64, generator=generator))
    wide = x.float() / torch.sqrt((x.float() ** 2).mean(-1, keepdim=True) + 1e-5)
    assert torch.equal(norm(x), wide.to(torch.bfloat16) * norm.weight)
    narrow = x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5)
    assert not torch.equal(norm(x), narrow * norm.weight)


def test_no_causal_mask_an_earlier_output_changes_when_a_later_token_changes(tiny_llada):
    model, ids = tiny_llada(), random_ids(1, 8)
    changed = ids.clone()
    changed[0, -1] = 5
    before, after = model(input_ids=ids).logits, model(input_ids=changed).logits
    assert (before[0, 0] - after[0, 0]).abs().max() > 1e-4


def test_head_is_free_or_tied_to_the_embedding(tiny_llada):
    for tied in (False, True):
        model = tiny_llada(weight_tying=tied)
        assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
        assert model.config.tie_word_embeddings == tied


def test_hidden_states_end_with_what_the_head_reads(tiny_llada):
    model, ids = tiny_llada(scale_logits=True), random_ids(2, 7)
    kept = torch.tensor([5, 1])
    out = model(input_ids=ids, output_hidden_states=True, logits_to_keep=kept)
    assert len(out.hidden_states) == model.config.n_layers + 1
    assert_close(out.hidden_states[0], model.get_input_embeddings()(ids))
    assert_close(model.get_output_embeddings()(out.hidden_states[-1])[:, kept], out.logits)
    assert_close(model(input_ids=ids, logits_to_keep=kept).logits, out.logits)
    logits, states = model(input_ids=ids, output_hidden_states=True, return_dict=False)
    assert logits.shape == (2, 7, 260)
    assert len(states) == 3


def test_embeddings_may_be_given_instead_of_ids(tiny_llada):
    model, ids = tiny_llada(), random_ids(2, 6)
    assert torch.equal(model(inputs_embeds=model.get_input_embeddings()(ids)).logits, model(input_ids=ids).logits)
    with pytest.raises(ValueError, match="exactly one"):
        model()


def test_bfloat16_stays_near_float32(tiny_llada):
    ids = random_ids(1, 40)
    wide, narrow = tiny_llada()(input_ids=ids).logits, tiny_llada(dtype=torch.bfloat16)(input_ids=ids).logits
    assert narrow.dtype == torch.bfloat16
    assert (wide - narrow.float()).abs().max() < 0.03 * wide.abs().max()


def test_dropout_acts_in_training_only(tiny_llada):
    ids = random_ids(1, 12)
    quiet = tiny_llada()(input_ids=ids).logits
    for field in ("attention_dropout", "residual_dropout", "embedding_dropout"):
        model = tiny_llada(**{field: 0.5})
        assert torch.equal(model(input_ids=ids).logits, quiet)
        assert not torch.equal(model.train()(input_ids=ids).logits, quiet)


def test_mitchell_initialisation_has_the_published_spread(tiny_llada):
    model = tiny_llada(d_model=128, mlp_hidden_size=256, n_heads=4, n_layers=3)
    cut = 0.9866  # standard deviation of a unit normal cut at three
    for name, fan_in, depth in (
        ("wte", 128, 1.0),
        ("blocks.2.q_proj", 128, 1.0),
        ("blocks.2.attn_out", 128, math.sqrt(6)),
        ("blocks.1.ff_out", 256, math.sqrt(4)),
        ("ff_out", 128, 1.0),
    ):
        weight = model.get_submodule("model.transformer." + name).weight
        assert weight.detach().std().item() == pytest.approx(cut / math.sqrt(fan_in) / depth, rel=0.03), name


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"block_type": "sequential"}, "block_type='sequential'"),
        ({"alibi": True}, "alibi=True"),
        ({"layer_norm_type": "default"}, "layer_norm_type='default'"),
        ({"activation_type": "swiglu"}, "activation_type='swiglu'"),
        ({"rope": False}, "rope=False"),
        ({"attention_layer_norm": True}, "attention_layer_norm=True"),
        ({"clip_qkv": 8.0}, "clip_qkv=8.0"),
        ({"init_fn": "fan_in"}, "init_fn='fan_in'"),
        ({"n_heads": 3}, "d_model=64"),
        ({"n_kv_heads": 3}, "n_kv_heads=3"),
        ({"n_layers": 0}, "n_layers=0"),
        ({"embedding_size": 100}, "embedding_size=100"),
    ],
)
def test_unsupported_configuration_is_refused_by_name(fields, named):
    with pytest.raises(UserError, match="LLaDA config: ") as caught:
        LLaDAConfig(**({"d_model": 64, "n_heads": 4, "vocab_size": 260} | fields))
    assert named in str(caught.value)
