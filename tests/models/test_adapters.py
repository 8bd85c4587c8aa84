"""What was trained is what is loaded: adapters stay beside their base, and a wrong base or folder is refused."""

import json
import shutil
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from unveil.errors import UserError, UserInputWarning
from unveil.models import load_denoiser_model
from unveil.models.adapters import record_of_base, starts_as_base, write_record
from unveil.training import add_adapters

IDS = torch.arange(4, 20)[None]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
FAMILIES = {
    "bert": lambda: BertForMaskedLM(BertConfig(vocab_size=60, **SIZES)),
    "roberta": lambda: RobertaForMaskedLM(RobertaConfig(vocab_size=60, **SIZES)),
    "modernbert": lambda: ModernBertForMaskedLM(
        ModernBertConfig(vocab_size=60, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
                         **SIZES)
    ),
}  # fmt: skip


def moved(model):
    """Every trained number away from its start."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def saved(model, folder):
    record = record_of_base(model)
    model.save_pretrained(folder)
    write_record(record, folder)
    return folder


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.fixture
def base(tiny_llada, tmp_path):
    tiny_llada(weight_tying=True).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapters(base, tmp_path):
    return saved(moved(add_adapters(load_denoiser_model(base))), tmp_path / "adapters")


def updates_of(size: float, base, folder):
    """Adapters whose update of a weight is about `size` of it."""
    model = add_adapters(load_denoiser_model(base))
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "lora_B") and "default" in module.lora_B:
                up, down = module.lora_B["default"].weight, module.lora_A["default"].weight
                up.copy_(torch.randn_like(up))
                change = module.scaling["default"] * (up @ down).norm() / module.base_layer.weight.norm()
                up.mul_(size / change)
    return saved(model, folder)


@pytest.mark.parametrize(("size", "dtype", "told"), [
    (1e-4, "bfloat16", True), (1e-4, "float16", True), (1e-4, "float32", False), (1e-2, "bfloat16", False),
    (1e-3, "bfloat16", True), (1e-3, "float16", False),
])  # fmt: skip
def test_updates_that_half_precision_does_not_resolve_are_warned_of(base, tmp_path, size, dtype, told):
    folder = updates_of(size, base, tmp_path / "adapters")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserInputWarning)
        load_denoiser_model(folder, dtype)
    said = [str(each.message) for each in caught if issubclass(each.category, UserInputWarning)]
    assert bool(said) == told
    assert all(f"by {size:.2g} of their size, which is finer than {dtype} resolves" in line for line in said)


def refusal(folder) -> str:
    with pytest.raises(UserError) as caught:
        load_denoiser_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("targets", [None, ["wte"], ["ff_out", "q_proj"], "all-linear", ".*(q|v)_proj"])
def test_what_was_trained_is_what_is_loaded(tiny_llada, tmp_path, tied, dtype, targets):
    tiny_llada(weight_tying=tied).save_pretrained(tmp_path / "base")
    model = load_denoiser_model(tmp_path / "base", dtype)
    start = logits(model)
    trained = moved(add_adapters(model, target_modules=targets))
    loaded = load_denoiser_model(saved(trained, tmp_path / "adapters"))
    assert torch.equal(logits(loaded), logits(trained))
    assert not torch.equal(logits(loaded), start)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_of_every_family_sit_on_the_linear_layers_of_its_blocks(family, tmp_path):
    torch.manual_seed(0)
    model = FAMILIES[family]()
    model.save_pretrained(tmp_path / "base")
    trained = moved(add_adapters(load_denoiser_model(tmp_path / "base")))
    adapted = {name.split(".lora_A")[0] for name, _ in trained.named_parameters() if ".lora_A." in name}
    linear = {
        f"base_model.model.{name}"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and (".layer.0." in name or ".layers.0." in name)
    }
    assert linear
    assert linear < adapted
    assert len(adapted) == 2 * len(linear)
    loaded = load_denoiser_model(saved(trained, tmp_path / "adapters"))
    assert torch.equal(logits(loaded), logits(trained))


def test_adapters_load_in_the_precision_that_they_were_trained_in_unless_told_otherwise(base, tmp_path):
    trained = moved(add_adapters(load_denoiser_model(base, "bfloat16")))
    folder = saved(trained, tmp_path / "adapters")
    assert load_denoiser_model(folder).dtype == torch.bfloat16
    assert load_denoiser_model(folder, "auto").dtype == torch.float32
    assert load_denoiser_model(folder, "float32").dtype == torch.float32


def test_the_mask_token_of_the_training_comes_with_the_adapters(tiny_llada, tmp_path):
    tiny_llada(mask_token_id=None).save_pretrained(tmp_path / "base")
    model = load_denoiser_model(tmp_path / "base")
    model.config.mask_token_id = 7
    folder = saved(moved(add_adapters(model)), tmp_path / "adapters")
    assert load_denoiser_model(folder).config.mask_token_id == 7


def test_adapters_find_their_base_from_any_folder(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = saved(moved(add_adapters(load_denoiser_model("base"))), tmp_path / "adapters")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_denoiser_model(folder).config.name_or_path == str(base)


def test_a_base_that_moved_along_with_its_adapters_is_found(adapters, tmp_path):
    expected = logits(load_denoiser_model(adapters))
    (tmp_path / "new").mkdir()
    for name in ("base", "adapters"):
        shutil.move(tmp_path / name, tmp_path / "new" / name)
    assert torch.equal(logits(load_denoiser_model(tmp_path / "new" / "adapters")), expected)


def test_another_base_in_the_same_place_is_refused(adapters, base, tiny_llada):
    tiny_llada(weight_tying=True, seed=1).save_pretrained(base)
    assert f"was trained on other weights than {base} holds now" in refusal(adapters)
    (adapters / "base_model.json").unlink()
    assert load_denoiser_model(adapters) is not None, "as the message says"


def test_a_base_that_was_cut_into_other_files_is_the_same_base(adapters, base):
    expected = logits(load_denoiser_model(adapters))
    whole = load_denoiser_model(base)
    shutil.rmtree(base)
    whole.save_pretrained(base, max_shard_size="20KB")
    assert torch.equal(logits(load_denoiser_model(adapters)), expected)


def test_a_base_that_is_gone_is_named(adapters, base):
    shutil.rmtree(base)
    assert f"its base model {base} is no longer there" in refusal(adapters)


def test_a_relative_base_without_a_fingerprint_is_warned_about(adapters, tmp_path, monkeypatch):
    (adapters / "base_model.json").unlink()
    fields = json.loads((adapters / "adapter_config.json").read_text())
    (adapters / "adapter_config.json").write_text(json.dumps(fields | {"base_model_name_or_path": "./base"}))
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserInputWarning, match=r"names its base model by the relative path \./base"):
        load_denoiser_model(adapters)


def edit_tensors(folder, change):
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


def test_adapters_with_missing_unknown_or_broken_tensors_are_refused(adapters):
    whole = (adapters / "adapter_model.safetensors").read_bytes()
    ninth = "base_model.model.model.transformer.blocks.9.attn_out.lora_A.weight"
    first = "base_model.model.model.transformer.blocks.0.attn_out.lora_A.weight"
    for change, said in (
        (lambda tensors: tensors.pop(first), f"lacks the tensor {first}"),
        (lambda tensors: [tensors.pop(name) for name in sorted(tensors)[::2]], "lacks the tensor"),
        (lambda tensors: tensors.clear(), "lacks the tensor"),
        (lambda tensors: tensors.update({first.replace("blocks", "blokcs"): tensors.pop(first)}), "lacks the tensor"),
        (lambda tensors: tensors.update({ninth: tensors[first].clone()}), f"unknown tensor {ninth}"),
        (lambda tensors: tensors.update({first: tensors[first][:, :5].clone()}), "does not load"),
        (lambda tensors: tensors[first][0].fill_(float("nan")), f"not finite in {first}"),
    ):  # fmt: skip
        edit_tensors(adapters, change)
        assert said in refusal(adapters)
        (adapters / "adapter_model.safetensors").write_bytes(whole)
    (adapters / "adapter_model.safetensors").write_bytes(b"")
    assert "does not load" in refusal(adapters)
    (adapters / "adapter_model.safetensors").unlink()
    assert "holds no adapter weights (adapter_model.safetensors)" in refusal(adapters)


def test_a_configuration_of_adapters_that_is_none_is_refused(adapters):
    file = adapters / "adapter_config.json"
    fields = json.loads(file.read_text())
    for content in ('{"peft_type": "NOPE", "base_model_name_or_path": "x"}', "{", "[1]", "5", "{}", "[" * 5000):
        file.write_text(content)
        assert "adapter_config.json" in refusal(adapters), content
    file.write_text(json.dumps(fields | {"base_model_name_or_path": None}))
    assert "names no base model" in refusal(adapters)
    for content in ("{", "[1]"):
        file.write_text(json.dumps(fields))
        (adapters / "base_model.json").write_text(content)
        assert "base_model.json" in refusal(adapters)


def test_the_config_of_the_base_beside_adapters_changes_nothing(adapters, base):
    expected = logits(load_denoiser_model(adapters))
    shutil.copy(base / "config.json", adapters)
    assert torch.equal(logits(load_denoiser_model(adapters)), expected)


def test_adapters_beside_whole_weights_are_refused(adapters, base):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(base / name, adapters)
    assert "holds adapters (adapter_config.json) and the weights of a whole model" in refusal(adapters)


def test_only_new_adapters_start_as_their_base(base):
    model = load_denoiser_model(base)
    assert not starts_as_base(moved(add_adapters(model)))
    for options, as_base in (
        ({"target_modules": "all-linear"}, True),
        ({"target_modules": ["wte"]}, True),
        ({"target_modules": "all-linear", "init_lora_weights": False}, False),
        ({"target_modules": "all-linear", "init_lora_weights": "olora"}, False),
        ({"target_modules": "all-linear", "modules_to_save": ["wte"]}, False),
        ({"target_modules": "all-linear", "bias": "all"}, False),
        ({"target_modules": "all-linear", "bias": "lora_only"}, False),
    ):
        fresh = get_peft_model(load_denoiser_model(base), LoraConfig(r=4, **options))
        assert isinstance(fresh, PeftModel)
        assert starts_as_base(fresh) is as_base, options
