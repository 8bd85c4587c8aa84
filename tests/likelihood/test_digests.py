"""Digests depend on content alone: not on shards, wrappers or the order of files."""

import copy

import pytest
import torch

from unveil.likelihood import Response
from unveil.likelihood.digests import digest_of_answer, digest_of_tokenizer, digest_of_weights, settings_of_model
from unveil.models import load_denoiser_model
from unveil.training import add_adapters
from unveil.training.surrogate_trainer import disable_dropout


@pytest.mark.parametrize("tied", [False, True])
def test_how_a_checkpoint_is_cut_into_files_changes_nothing(tiny_llada, tmp_path, tied):
    model = tiny_llada(weight_tying=tied)
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    found = {digest_of_weights(load_denoiser_model(tmp_path / name)) for name in ("one", "many")}
    assert found == {digest_of_weights(model)}


def test_one_bit_of_one_tensor_changes_the_digest(tiny_llada):
    model = tiny_llada()
    before = digest_of_weights(model)
    for parameter in model.parameters():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.view(-1)[-1] = torch.nextafter(parameter.view(-1)[-1], torch.tensor(9.0))
        assert digest_of_weights(model) != before
        parameter.data = kept
    assert digest_of_weights(model) == before
    assert digest_of_weights(copy.deepcopy(model).to(torch.float64)) != before


def test_adapters_count_when_they_are_on(tiny_llada):
    base = tiny_llada()
    adapted = add_adapters(tiny_llada(), r=2, alpha=4)
    assert digest_of_weights(adapted) == digest_of_weights(base)
    on = digest_of_weights(adapted, adapters=True)
    assert on != digest_of_weights(base)
    with torch.no_grad():
        next(p for name, p in adapted.named_parameters() if "lora_B" in name).add_(1)
    assert digest_of_weights(adapted, adapters=True) != on
    assert digest_of_weights(adapted) == digest_of_weights(base)
    torch.manual_seed(0)
    one = add_adapters(tiny_llada(), r=2, alpha=4)
    torch.manual_seed(0)
    other = add_adapters(tiny_llada(), r=2, alpha=8)
    assert digest_of_weights(one, adapters=True) != digest_of_weights(other, adapters=True)


def test_settings_are_those_of_the_function_alone(tiny_llada, toy_tokenizer, tmp_path):
    model = tiny_llada(attention_dropout=0.1, residual_dropout=0.1)
    before = settings_of_model(model)
    disable_dropout(model)
    model.config.pad_token_id = 3
    model.save_pretrained(tmp_path / "saved")
    assert settings_of_model(model) == before
    assert settings_of_model(load_denoiser_model(tmp_path / "saved", dtype="bfloat16")) == before
    assert settings_of_model(tiny_llada(rms_norm_eps=1e-6)) != before


def test_the_tokenizer_is_its_vocabulary_special_tokens_and_template(toy_tokenizer, tmp_path):
    before = digest_of_tokenizer(toy_tokenizer)
    toy_tokenizer.save_pretrained(tmp_path)
    assert digest_of_tokenizer(type(toy_tokenizer).from_pretrained(tmp_path)) == before
    changes = ({"chat_template": "{{ messages }}"}, {"eos_token": "<|eot|>"})
    for change in changes:
        other = type(toy_tokenizer).from_pretrained(tmp_path, **change)
        assert digest_of_tokenizer(other) != before
    other = type(toy_tokenizer).from_pretrained(tmp_path)
    other.add_tokens(["new"])
    assert digest_of_tokenizer(other) != before


def test_tokens_that_move_between_prompt_answer_and_tail_are_other_answers():
    answers = [
        Response(1, [1, 2], [3, 4], [5]),
        Response(2, [1, 2], [3, 4], [5]),
        Response(1, [1], [2, 3, 4], [5]),
        Response(1, [1, 2], [3], [4, 5]),
        Response(1, [1, 2], [3, 4], []),
        Response(1, [1, 2], [3, 4], [6]),
    ]
    assert len({digest_of_answer(answer) for answer in answers}) == len(answers)
