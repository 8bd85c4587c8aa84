"""Of a folder that lists its files, a model, adapters or a tokenizer load only as they were written."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from unveil.checksums import write_checksums
from unveil.errors import UserError
from unveil.models import load_config, load_denoiser_model, load_tokenizer
from unveil.models.adapters import record_of_base, write_record


def _missing(file: Path) -> None:
    file.unlink()


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def _one_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)


def _foreign(file: Path) -> None:
    file.write_bytes(b"{}".ljust(file.stat().st_size))


DAMAGES = {"missing": _missing, "cut": _cut, "one bit": _one_bit, "foreign": _foreign}
OF_MODEL = ("model.safetensors", "config.json")
OF_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
OF_ADAPTERS = ("adapter_model.safetensors", "adapter_config.json", "base_model.json")


@pytest.fixture
def model(base) -> Path:
    (Path(base) / "run.json").write_text("{}")
    write_checksums(Path(base))
    return Path(base)


@pytest.fixture
def adapters(base, tmp_path) -> Path:
    folder = tmp_path / "adapters"
    adapted = get_peft_model(load_denoiser_model(base), LoraConfig(r=2, target_modules=["q_proj"]))
    record = record_of_base(adapted)
    adapted.save_pretrained(folder)
    write_record(record, folder)
    write_checksums(folder)
    return folder


def refused(load, folder: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        load(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}: {name} "), message
    assert message.endswith(f"; copy it again, or, if you changed it on purpose, remove {folder / 'checksums.json'}")
    assert "\n" not in message


def each_damaged(load, folder: Path, names: tuple[str, ...], damage) -> Iterator[str]:
    """The names of files, each while it is damaged; before and after that the folder loads."""
    load(folder)
    for name in names:
        whole = (folder / name).read_bytes()
        damage(folder / name)
        yield name
        (folder / name).write_bytes(whole)
        load(folder)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_no_damaged_file_of_a_model_is_loaded(model, damage):
    for name in each_damaged(load_denoiser_model, model, OF_MODEL, damage):
        refused(load_denoiser_model, model, name)
        if name == "config.json":
            refused(load_config, model, name)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_no_damaged_file_of_a_tokenizer_is_loaded(model, damage):
    for name in each_damaged(load_tokenizer, model, OF_TOKENIZER, damage):
        refused(load_tokenizer, model, name)
        load_denoiser_model(model)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_no_damaged_file_of_adapters_is_loaded(adapters, damage):
    for name in each_damaged(load_denoiser_model, adapters, OF_ADAPTERS, damage):
        refused(load_denoiser_model, adapters, name)


def test_a_file_that_was_added_among_those_that_are_loaded_is_refused(model, adapters):
    (model / "run.json").write_text("changed")
    (model / "notes.txt").touch()
    load_denoiser_model(model)
    (model / "model.safetensors.index.json").write_text("{}")
    refused(load_denoiser_model, model, "model.safetensors.index.json")
    (model / "chat_template.jinja").write_text("{{ 1 }}")
    refused(load_tokenizer, model, "chat_template.jinja")
    (adapters / "adapter_model.bin").touch()
    refused(load_denoiser_model, adapters, "adapter_model.bin")


def test_a_damaged_list_is_refused_and_without_one_a_changed_model_loads(model):
    (model / "checksums.json").write_text("{")
    refused(load_denoiser_model, model, "checksums.json")
    _one_bit(model / "model.safetensors")
    (model / "checksums.json").unlink()
    assert isinstance(load_denoiser_model(model), torch.nn.Module)


@pytest.mark.parametrize("words", [(), ("--use_peft",)], ids=["model", "adapters"])
def test_a_command_does_not_compute_with_a_flipped_bit_of_what_was_trained(unveil, base, tmp_path, words):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out"
    rows.write_text("".join(json.dumps({"prompt": "a", "completion": "b", "label": i > 0}) + "\n" for i in range(2)))
    flags = ("--dataset_name", rows, "--max_steps", 1, "--use_cpu", "--output_dir", out, *words)
    assert unveil("train", "--model_name_or_path", base, *flags).code == 0
    name = "adapter_model.safetensors" if words else "model.safetensors"
    asks = ("generate", "--model_name_or_path", out, "--prompt", "a", "--gen_length", 1)
    assert unveil(*asks).code == 0
    _one_bit(out / name)
    code, answer, err = unveil(*asks)
    assert (code, answer) == (2, "")
    assert f"{out}: {name} is not what was written; " in err
    assert err.count("\n") == 1
