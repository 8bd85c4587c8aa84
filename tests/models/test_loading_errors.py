"""Whatever is wrong with a checkpoint is said in one line that names the file, tensor or flag."""

import json
import logging

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

from unveil.errors import UserError
from unveil.models import LORA_TARGETS, LLaDAModelLM, load_denoiser_model, load_tokenizer, unwrap

KEY = "model.transformer.blocks.1.up_proj.weight"


@pytest.fixture
def folder(tiny_llada, tmp_path):
    tiny_llada().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder, **fields):
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def refusal(*args, load=load_denoiser_model, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        load(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert "; " in message or message.endswith(")"), "says what to do"
    return message


def test_missing_tensor_is_named_once(folder, caplog, monkeypatch):
    edit_tensors(folder, lambda tensors: tensors.pop(KEY))
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    message = refusal(folder)
    assert str(folder) in message
    assert f"lacks the tensor {KEY}" in message
    assert not caplog.records, "the loading table of transformers would say it again"


def test_unexpected_tensor_is_named(folder):
    edit_tensors(folder, lambda tensors: tensors.update({"model.transformer.blocks.0.q_norm.weight": torch.ones(8)}))
    assert "unknown tensor model.transformer.blocks.0.q_norm.weight" in refusal(folder)


def test_misshapen_tensor_is_named_with_both_shapes(folder):
    edit_tensors(folder, lambda tensors: tensors.update({KEY: torch.ones(47, 32)}))
    assert f"{KEY} is [47, 32], not [48, 32]" in refusal(folder)


def test_many_wrong_tensors_are_counted(folder):
    edit_config(folder, n_layers=4)
    message = refusal(folder)
    assert "model.transformer.blocks.2.attn_norm.weight" in message
    assert "and 15 more" in message


def test_untied_head_that_the_config_calls_tied(folder):
    edit_config(folder, weight_tying=True)
    assert "weight_tying" in refusal(folder)


def test_truncated_file_is_named(folder):
    data = (folder / "model.safetensors").read_bytes()
    for size in (0, 5, 1000, len(data) - 1):
        (folder / "model.safetensors").write_bytes(data[:size])
        assert f"{folder / 'model.safetensors'}: is truncated" in refusal(folder)


def test_shards_that_are_missing_or_truncated_are_named(tiny_llada, tmp_path):
    tiny_llada().save_pretrained(tmp_path, max_shard_size="20KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    data = shard.read_bytes()
    shard.write_bytes(data[:-8])
    assert f"{shard}: is truncated" in refusal(tmp_path)
    shard.unlink()
    assert f"{shard}: is missing" in refusal(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{")
    assert "model.safetensors.index.json: cannot be read" in refusal(tmp_path)


def test_folder_without_weights_or_config(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    assert "holds no weights" in refusal(folder)
    (folder / "config.json").write_text('{"model_type": ')
    assert "config.json is not valid JSON" in refusal(folder)
    (folder / "config.json").unlink()
    assert "config.json is missing" in refusal(folder)
    assert "there is no such folder" in refusal(tmp_path / "nowhere")
    assert "there is no such folder" in refusal("./nowhere")
    (tmp_path / "file").write_text("")
    assert "is a file" in refusal(tmp_path / "file")


def test_name_that_is_neither_a_folder_nor_on_the_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refusal("nobody/no-such-model")
    assert message.startswith("nobody/no-such-model: neither a folder here nor readable on the Hugging Face hub")


@pytest.mark.parametrize("model_type", ["llama9", "gpt2", ...])
def test_model_type_that_is_unknown_or_not_a_masked_model(folder, model_type):
    if model_type == "gpt2":
        GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=10)).save_pretrained(folder)
    else:
        edit_config(folder, model_type=model_type)
    expected = "names no model_type" if model_type is ... else f"model_type '{model_type}'"
    assert expected in refusal(folder)


def test_unknown_model_type_with_remote_code_is_refused_without_a_question(folder, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked a question on the terminal"))
    edit_config(folder, model_type="mystery", auto_map={"AutoConfig": "configuration_mystery.MysteryConfig"})
    assert "model_type 'mystery'" in refusal(folder)


def test_unsupported_config_field_is_named_with_the_folder(folder):
    edit_config(folder, block_type="sequential")
    message = refusal(folder)
    assert message.startswith(str(folder))
    assert "block_type='sequential'" in message


def test_wrong_dtype_or_attention_is_named_by_flag(folder):
    assert "--dtype float33" in refusal(folder, dtype="float33")
    assert "--dtype torch.int8" in refusal(folder, dtype=torch.int8)
    assert "--attn_implementation eager" in refusal(folder, attn_implementation="eager")
    assert load_denoiser_model(folder, attn_implementation="sdpa").dtype == torch.float32


def test_tokenizer_larger_than_the_model(tiny_llada, toy_tokenizer, tmp_path):
    tiny_llada(vocab_size=259).save_pretrained(tmp_path)
    message = refusal(tmp_path, tokenizer=toy_tokenizer)
    assert "ids go up to 259 but the model has 259 embedding rows" in message


def test_tokenizer_with_another_mask_token(folder, toy_tokenizer):
    toy_tokenizer.mask_token = "<|eot|>"
    assert "mask token has id 3 but the model's config says mask_token_id=1" in refusal(folder, tokenizer=toy_tokenizer)


def test_tokenizer_missing_or_damaged(folder, toy_tokenizer):
    assert f"{folder}: holds no tokenizer" in refusal(folder, load=load_tokenizer)
    assert "there is no such folder" in refusal("/nowhere/at/all", load=load_tokenizer)
    toy_tokenizer.save_pretrained(folder)
    data = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(data[: len(data) // 2])
    assert f"{folder}: the tokenizer cannot be loaded" in refusal(folder, load=load_tokenizer)


def test_another_masked_language_model_loads(tmp_path):
    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    model = BertForMaskedLM(config)
    model.save_pretrained(tmp_path)
    loaded = load_denoiser_model(tmp_path)
    assert isinstance(loaded, BertForMaskedLM)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize("task", [None, "CAUSAL_LM"])
def test_published_adapters_load_beside_the_weights_of_their_base(folder, tmp_path, task):
    base = load_denoiser_model(folder)
    options = {"r": 4, "target_modules": LORA_TARGETS, "init_lora_weights": False, "task_type": task}
    adapted = get_peft_model(base, LoraConfig(**options)).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    ids = torch.arange(2, 12)[None]
    loaded = load_denoiser_model(tmp_path / "adapter")
    assert isinstance(unwrap(loaded), LLaDAModelLM)
    assert torch.equal(loaded(input_ids=ids).logits, adapted(input_ids=ids).logits)


def test_adapter_whose_base_is_gone_or_whose_file_is_damaged(folder, tmp_path):
    adapter = tmp_path / "adapter"
    get_peft_model(load_denoiser_model(folder), LoraConfig(target_modules=LORA_TARGETS)).save_pretrained(adapter)
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    assert f"{adapter}: the adapter does not load" in refusal(adapter)
    fields = json.loads((adapter / "adapter_config.json").read_text())
    fields["base_model_name_or_path"] = str(tmp_path / "gone")
    (adapter / "adapter_config.json").write_text(json.dumps(fields))
    assert f"{tmp_path / 'gone'}" in refusal(adapter)
    (adapter / "adapter_config.json").write_text("{")
    assert "adapter_config.json cannot be read" in refusal(adapter)
