"""Parameters counted from the configuration are those of the network that is built from it."""

import pytest
import torch

from unveil.models import LLaDAConfig, LLaDAModelLM
from unveil.planning import Adapters, Shape
from unveil.training import add_adapters

TINY = {"d_model": 32, "n_layers": 3, "n_heads": 4, "mlp_hidden_size": 48, "vocab_size": 260}
CONFIGS = {
    "untied": {},
    "tied": {"weight_tying": True},
    "grouped queries": {"n_kv_heads": 2},
    "one key head": {"multi_query_attention": True},
    "all biases": {"include_bias": True, "bias_for_layer_norm": None},
    "tied with biases": {"include_bias": True, "weight_tying": True},
    "biases of queries, keys, values": {"include_qkv_bias": True},
    "biases of norms": {"bias_for_layer_norm": True},
    "padded vocabulary": {"embedding_size": 320},
    "width by ratio": {"mlp_hidden_size": None, "mlp_ratio": 2},
}


def on_meta(**fields) -> LLaDAModelLM:
    with torch.device("meta"):
        return LLaDAModelLM(LLaDAConfig(**{**TINY, **fields}))


@pytest.mark.parametrize("case", CONFIGS)
def test_parameters_are_those_of_the_network(case):
    model = on_meta(**CONFIGS[case])
    model.tie_weights()
    shape = Shape.of(model.config)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    blocks = model.model.transformer["blocks"]
    assert shape.block == sum(p.numel() for p in blocks[0].parameters())


def test_the_published_sizes_make_eight_billion():
    assert Shape.of(LLaDAConfig()).parameters == 8_015_581_184


@pytest.mark.parametrize(
    "targets",
    [None, ["q_proj", "v_proj"], ["ff_out"], ["blocks.1.ff_proj", "attn_out"], "all-linear", r".*\.1\.k_proj"],
    ids=str,
)
def test_adapters_are_those_that_peft_adds(targets, tiny_llada):
    model = tiny_llada(n_layers=3)
    shape = Shape.of(model.config)
    counted = Adapters.on(shape, 4, targets).parameters(shape)
    adapted = add_adapters(model, 4, target_modules=targets)
    assert counted == sum(p.numel() for p in adapted.parameters() if p.requires_grad) > 0
