"""`--lora_target_modules` takes what TRL and peft take, and refuses what names nothing."""

import pytest
import torch

from unveil.errors import UserError
from unveil.models.lora_targets import default_targets, read_targets
from unveil.models.modeling_llada import LORA_TARGETS
from unveil.training import add_adapters


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        (None, None),
        ([], None),
        (["q_proj", "v_proj"], ["q_proj", "v_proj"]),
        (["q_proj,v_proj"], ["q_proj", "v_proj"]),
        (["q_proj,", "v_proj"], ["q_proj", "v_proj"]),
        (["wte"], ["wte"]),
        (["blocks.0.q_proj"], ["blocks.0.q_proj"]),
        (["all-linear"], "all-linear"),
        (["All-Linear"], "all-linear"),
        ([".*(q|v)_proj"], ".*(q|v)_proj"),
        (r".*\.[01]\.q_proj", r".*\.[01]\.q_proj"),
    ],
)
def test_words_become_what_peft_takes(words, targets):
    assert read_targets(words) == targets


@pytest.mark.parametrize("words", [["all-linear", "q_proj"], [".*q_proj", "v_proj"], ["(q"], ["*proj"]])
def test_words_that_cannot_be_meant_are_refused(words):
    with pytest.raises(UserError, match="--lora_target_modules"):
        read_targets(words)


def adapted(model) -> set[str]:
    return {name.split(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A." in name}


def test_all_linear_leaves_the_head_out(tiny_llada):
    assert adapted(add_adapters(tiny_llada(), target_modules=["all-linear"])) == adapted(add_adapters(tiny_llada()))
    assert default_targets(tiny_llada()) == LORA_TARGETS


def test_a_model_without_blocks_is_adapted_on_all_linear_layers():
    assert default_targets(torch.nn.Sequential(torch.nn.Linear(2, 2))) == "all-linear"


def test_a_name_that_no_module_has_is_refused_even_beside_one_that_fits(tiny_llada):
    with pytest.raises(UserError, match="has no module v_prj; its linear layers are attn_out, "):
        add_adapters(tiny_llada(), target_modules=["q_proj", "v_prj"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"r": 0}, "--lora_r 0"),
        ({"alpha": 0}, "--lora_alpha 0"),
        ({"dropout": 1.0}, "--lora_dropout 1"),
        ({"target_modules": ["attn_norm"]}, "--lora_target_modules: Target module LLaDARMSNorm"),
        ({"target_modules": [".*nothing.*"]}, "--lora_target_modules: Target modules .*nothing.* not found"),
    ],
)
def test_adapters_that_cannot_be_are_refused_by_flag(tiny_llada, options, said):
    with pytest.raises(UserError) as caught:
        add_adapters(tiny_llada(), **options)
    assert said in str(caught.value)
