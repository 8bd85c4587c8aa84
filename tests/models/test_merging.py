"""A merge is the sum of base and adapters, rounded once, and tells what the rounding took."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from unveil.errors import UserError
from unveil.models import load_denoiser_model
from unveil.models.merging import merge_adapters
from unveil.training import add_adapters

IDS = torch.arange(4, 20)[None]


def moved(model, by: float = 0.05):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(by * torch.randn_like(parameter))
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("targets", [None, ["wte"], ["ff_out"], ["wte", "ff_out"]])
def test_a_merged_model_is_what_its_adapters_were_also_where_embedding_and_head_are_tied(
    tiny_llada, tmp_path, tied, targets
):
    trained = moved(add_adapters(tiny_llada(weight_tying=tied), target_modules=targets))
    expected = logits(trained)
    merged, kept = merge_adapters(trained)
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
    assert kept.untied is (tied and targets is not None)
    assert kept.share == pytest.approx(1, abs=1e-6)
    merged.save_pretrained(tmp_path)
    loaded = load_denoiser_model(tmp_path)
    assert torch.equal(logits(loaded), logits(merged))
    assert {name for name, _ in loaded.named_parameters()} >= {name for name, _ in tiny_llada().named_parameters()} - {
        "model.transformer.ff_out.weight"
    }


def test_the_share_of_the_update_that_rounding_leaves_is_counted(tiny_llada):
    base = tiny_llada(dtype=torch.bfloat16)
    before = {name: tensor.clone().float() for name, tensor in base.state_dict().items()}
    trained = moved(add_adapters(base), by=1e-4)
    meant = {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach().float()
        for name, module in trained.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    merged, kept = merge_adapters(trained)
    assert merged.dtype == torch.bfloat16
    along = squared = changed = numbers = 0.0
    for name, update in meant.items():
        left = merged.state_dict()[f"{name}.weight"].detach().float() - before[f"{name}.weight"]
        along += float((left * update).sum())
        squared += float(update.square().sum())
        changed += float((left != 0).sum())
        numbers += left.numel()
    assert kept.share == pytest.approx(along / squared, rel=1e-2)
    assert kept.changed == pytest.approx(changed / numbers)
    assert kept.numbers == numbers
    assert kept.share < 0.9
    assert kept.changed < 0.5


def test_a_wider_type_keeps_what_bfloat16_loses(tiny_llada):
    trained = moved(add_adapters(tiny_llada(dtype=torch.bfloat16)), by=1e-4)
    merged, kept = merge_adapters(trained, torch.float32)
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    assert kept.share == pytest.approx(1, abs=1e-6)


def test_trained_modules_beside_the_adapters_are_merged_too(tiny_llada):
    options = {"target_modules": ["q_proj"], "modules_to_save": ["ln_f", "ff_out"]}
    trained = moved(get_peft_model(tiny_llada(), LoraConfig(r=4, **options)))
    expected = logits(trained)
    torch.testing.assert_close(logits(merge_adapters(trained)[0]), expected, rtol=1e-4, atol=1e-5)


def test_adapters_that_have_no_sum_are_refused(tiny_llada, monkeypatch):
    trained = add_adapters(tiny_llada())
    layer = next(module for module in trained.modules() if hasattr(module, "lora_A") and hasattr(module, "merge"))
    monkeypatch.setattr(type(layer), "merge", lambda *_, **__: (_ for _ in ()).throw(ValueError("no sum")))
    with pytest.raises(UserError, match="the adapters cannot be merged"):
        merge_adapters(trained)
