"""A configuration, an index or a weight file that cannot be meant is refused before memory is taken."""

import json
import pickle
import resource
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from unveil.errors import UserError
from unveil.models import LLaDAConfig, load_config, load_denoiser_model
from unveil.models.weight_files import fingerprint_of_files, weight_files


@pytest.fixture
def folder(tiny_llada, tmp_path):
    tiny_llada().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder, **fields):
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps(config))


def refusal(folder) -> str:
    with pytest.raises(UserError) as caught:
        load_denoiser_model(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    assert str(folder) in message
    return message


@pytest.mark.parametrize(
    "fields",
    [
        {"n_layers": 10**9},
        {"d_model": 10**7},
        {"mlp_hidden_size": 10**12},
        {"vocab_size": 10**11, "embedding_size": 10**11},
        {"d_model": 10**18, "n_heads": 10**9, "mlp_hidden_size": 10**18},
    ],
)
def test_a_network_far_larger_than_its_weights_is_refused_at_once(folder, fields):
    edit_config(folder, **fields)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "config.json" in refusal(folder)
    assert time.perf_counter() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19, "KiB"


@pytest.mark.parametrize("fields", [{"num_hidden_layers": 10**9}, {"hidden_size": 10**7}, {"hidden_size": 15}])
def test_the_same_holds_for_another_family(tmp_path, fields):
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    edit_config(tmp_path, **fields)
    assert "config.json" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_sequence_length", "a"),
        ("max_sequence_length", 0),
        ("eos_token_id", [[1]]),
        ("eos_token_id", []),
        ("eos_token_id", "x"),
        ("mask_token_id", 1.5),
        ("rms_norm_eps", "x"),
        ("rms_norm_eps", -1.0),
        ("rms_norm_eps", float("nan")),
        ("rope_theta", 0),
        ("d_model", "32"),
        ("n_layers", True),
        ("n_layers", None),
        ("weight_tying", "no"),
        ("attention_dropout", 1.5),
        ("block_type", ["llama"]),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(folder, field, value):
    edit_config(folder, **{field: value})
    assert f"{field}=" in refusal(folder)


def test_whole_numbers_and_lists_of_end_tokens_are_taken():
    config = LLaDAConfig(eos_token_id=[1, 2], rope_theta=10000, rms_norm_eps=0, mlp_ratio=4)
    assert config.eos_token_id == [1, 2]


@pytest.mark.parametrize("content", ["[1]", "5", "null", '"x"', "[" * 5000, "{"])
def test_a_config_that_is_no_mapping_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    assert "config.json" in refusal(folder)
    with pytest.raises(UserError, match=r"config\.json"):
        load_config(folder)


@pytest.mark.parametrize(
    "content",
    ['{"weight_map": {}}', '{"weight_map": {"a": 5}}', '{"weight_map": {"a": "../s.safetensors"}}', "[]", "5", "{}",
     '{"weight_map": [1]}', '{"weight_map": {"a": ""}}', '{"weight_map": {"a": "s.safetensors"}}',
     '{"metadata": 3, "weight_map": {"a": "s.safetensors"}}',
     "[" * 5000],
)  # fmt: skip
def test_an_index_without_files_is_refused(folder, content):
    (folder / "model.safetensors").rename(folder / "s.safetensors")
    (folder / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json: " in refusal(folder)


class Attack:
    def __reduce__(self):
        return (print, ("EXECUTED",))


def test_weights_that_are_a_program_are_refused_and_not_run(folder, capsys):
    (folder / "model.safetensors").unlink()
    with open(folder / "pytorch_model.bin", "wb") as file:
        pickle.dump({"a": Attack()}, file)
    assert "the weights cannot be loaded" in refusal(folder)
    assert "EXECUTED" not in capsys.readouterr().out
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "the weights cannot be loaded" in refusal(folder)


def test_absurd_sizes_are_refused_for_weights_of_torch_too(folder):
    tensors = load_file(folder / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert load_denoiser_model(folder) is not None
    edit_config(folder, n_layers=10**9)
    assert "n_layers=1000000000" in refusal(folder)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int8", "bool", "Tensor", "nn", "complex64"])
def test_a_type_that_nothing_can_be_computed_in_is_refused(folder, dtype):
    with pytest.raises(UserError, match=f"--dtype {dtype}: is no type to compute in"):
        load_denoiser_model(folder, dtype)


def test_the_fingerprint_knows_numbers_and_names_but_not_files(tiny_llada, folder, tmp_path):
    whole = fingerprint_of_files(weight_files(folder))
    tiny_llada().save_pretrained(tmp_path / "cut", max_shard_size="20KB")
    assert fingerprint_of_files(weight_files(tmp_path / "cut")) == whole
    tensors = load_file(folder / "model.safetensors")
    name = min(tensors)
    tensors[name].view(-1)[0] += 1e-3
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint_of_files(weight_files(folder)) != whole


def test_the_fingerprint_of_a_large_tensor_sees_its_ends(tmp_path):
    digests = []
    for place in (None, 0, -1):
        tensor = torch.zeros(2**20)
        if place is not None:
            tensor[place] = 1
        save_file({"a": tensor}, tmp_path / "model.safetensors")
        digests.append(fingerprint_of_files([tmp_path / "model.safetensors"]))
    assert len(set(digests)) == 3


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("rows", "multiple"), [(270, None), (100, None), (261, 64), (None, 64)])
def test_a_model_with_resized_embeddings_saves_a_folder_that_loads(tiny_llada, tmp_path, tied, rows, multiple):
    model = tiny_llada(weight_tying=tied, include_bias=not tied)
    model.resize_token_embeddings(rows, multiple)
    model.save_pretrained(tmp_path)
    loaded = load_denoiser_model(tmp_path)
    ids = torch.arange(2, 30)[None]
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert loaded.config.embedding_size == len(loaded.get_input_embeddings().weight)
