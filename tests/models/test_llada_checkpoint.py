"""Published checkpoints load as they are, and what is saved has their layout."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from unveil.models import LLaDAConfig, LLaDAModelLM, load_denoiser_model, load_tokenizer

WIDTH, MLP, ROWS, LAYERS = 32, 48, 260, 2

# The fields of the published LLaDA-8B config.json, with small numbers.
PUBLISHED_CONFIG = {
    "activation_type": "silu",
    "alibi": False,
    "alibi_bias_max": 8.0,
    "architectures": ["LLaDAModelLM"],
    "attention_dropout": 0.0,
    "attention_layer_norm": False,
    "attention_layer_norm_with_affine": True,
    "auto_map": {
        "AutoConfig": "configuration_llada.LLaDAConfig",
        "AutoModelForCausalLM": "modeling_llada.LLaDAModelLM",
        "AutoModel": "modeling_llada.LLaDAModelLM",
    },
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "d_model": WIDTH,
    "embedding_dropout": 0.0,
    "embedding_size": ROWS,
    "eos_token_id": 0,
    "flash_attention": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "init_cutoff_factor": None,
    "init_device": "meta",
    "init_fn": "mitchell",
    "init_std": 0.02,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "mask_token_id": 1,
    "max_sequence_length": 256,
    "mlp_hidden_size": MLP,
    "mlp_ratio": 4,
    "model_type": "llada",
    "multi_query_attention": None,
    "n_heads": 4,
    "n_kv_heads": 4,
    "n_layers": LAYERS,
    "pad_token_id": 0,
    "precision": "amp_bf16",
    "residual_dropout": 0.0,
    "rms_norm_eps": 1e-05,
    "rope": True,
    "rope_full_precision": True,
    "rope_theta": 500000.0,
    "scale_logits": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.46.3",
    "use_cache": False,
    "vocab_size": ROWS,
    "weight_tying": False,
}


def published_tensors() -> dict[str, torch.Tensor]:
    """Random bfloat16 tensors under the published names."""
    shapes = {
        "model.transformer.wte.weight": (ROWS, WIDTH),
        "model.transformer.ln_f.weight": (WIDTH,),
        "model.transformer.ff_out.weight": (ROWS, WIDTH),
    }
    for layer in range(LAYERS):
        block = f"model.transformer.blocks.{layer}."
        shapes |= {block + name + ".weight": (WIDTH,) for name in ("attn_norm", "ff_norm")}
        shapes |= {block + name + ".weight": (WIDTH, WIDTH) for name in ("q_proj", "k_proj", "v_proj", "attn_out")}
        shapes |= {block + name + ".weight": (MLP, WIDTH) for name in ("ff_proj", "up_proj")}
        shapes[block + "ff_out.weight"] = (WIDTH, MLP)
    generator = torch.Generator().manual_seed(0)
    return {name: (0.1 * torch.randn(shape, generator=generator)).bfloat16() for name, shape in shapes.items()}


@pytest.fixture
def published(tmp_path):
    """A folder as published: config.json with its auto_map, two shards, an index; no code files."""
    folder = tmp_path / "published"
    folder.mkdir()
    tensors = published_tensors()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:10], "model-00002-of-00002.safetensors": names[10:]}
    for file, members in shards.items():
        save_file({name: tensors[name] for name in members}, folder / file, metadata={"format": "pt"})
    weight_map = {name: file for file, members in shards.items() for name in members}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(PUBLISHED_CONFIG))
    return folder


@pytest.fixture(autouse=True)
def no_questions(monkeypatch):
    """Loading must not ask whether remote code may run."""

    def refuse(*_):
        raise AssertionError("asked a question on the terminal")

    monkeypatch.setattr("builtins.input", refuse)


def test_published_layout_loads_tensor_by_tensor(published):
    model = load_denoiser_model(published)
    assert isinstance(model, LLaDAModelLM)
    assert not model.training
    assert model.dtype == torch.bfloat16
    state, expected = model.state_dict(), published_tensors()
    assert sorted(state) == sorted(expected)
    assert len(state) == 9 * LAYERS + 3
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_the_8b_model_has_the_291_published_tensors_and_8_billion_parameters():
    with torch.device("meta"):
        model = LLaDAModelLM(LLaDAConfig())
    assert len(model.state_dict()) == 291
    assert model.get_output_embeddings().weight.shape == (126464, 4096)
    embeddings = 2 * 126464 * 4096
    assert sum(p.numel() for p in model.parameters()) - embeddings == pytest.approx(6.98e9, rel=1e-3)


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM])
def test_auto_classes_need_no_remote_code(published, auto):
    assert isinstance(AutoConfig.from_pretrained(published), LLaDAConfig)
    assert isinstance(auto.from_pretrained(published), LLaDAModelLM)
    assert isinstance(auto.from_pretrained(published, trust_remote_code=True), LLaDAModelLM)


@pytest.mark.parametrize("dtype", ["float32", torch.float64, "bfloat16"])
def test_dtype_is_the_callers_choice(published, dtype):
    model = load_denoiser_model(published, dtype=dtype)
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    assert {p.dtype for p in model.parameters()} == {wanted}
    weight = published_tensors()["model.transformer.wte.weight"].to(wanted)
    assert torch.equal(model.get_input_embeddings().weight, weight)


@pytest.mark.parametrize("shard_size", ["1GB", "20KB"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_and_loaded_again_bit_for_bit(tiny_llada, tmp_path, shard_size, tied, dtype):
    model = tiny_llada(weight_tying=tied, dtype=dtype)
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert (len(files) > 2) == (shard_size == "20KB")
    saved = {name for file in files for name in load_file(file)}
    head = "model.transformer.ff_out.weight"
    assert saved == set(published_tensors()) - ({head} if tied else set())
    loaded = load_denoiser_model(tmp_path)
    assert loaded.dtype == dtype
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) == tied
    ids = torch.arange(2, 12)[None]
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


def test_saved_config_has_the_published_fields_and_no_paths(published, tmp_path):
    load_denoiser_model(published).save_pretrained(tmp_path / "again")
    text = (tmp_path / "again" / "config.json").read_text()
    saved = json.loads(text)
    assert str(tmp_path) not in text
    renamed = {"torch_dtype": "dtype"}
    for field, value in PUBLISHED_CONFIG.items():
        if field not in ("auto_map", "transformers_version"):
            assert saved[renamed.get(field, field)] == value, field
    assert "auto_map" not in saved, "it names code files that are not beside the weights"
    again = LLaDAConfig.from_pretrained(tmp_path / "again")
    assert again.to_diff_dict() == saved


def test_an_auto_map_that_names_its_repository_is_kept():
    auto_map = {"AutoConfig": "GSAI-ML/LLaDA-8B-Instruct--configuration_llada.LLaDAConfig"}
    assert LLaDAConfig(auto_map=auto_map).to_diff_dict()["auto_map"] == auto_map
    half_local = auto_map | {"AutoModel": "modeling_llada.LLaDAModelLM"}
    assert "auto_map" not in LLaDAConfig(auto_map=half_local).to_diff_dict()


def test_tokenizer_is_saved_beside_the_model_and_found_there(published, toy_tokenizer):
    toy_tokenizer.save_pretrained(published)
    tokenizer = load_tokenizer(published)
    text = "Ein naïve ½ test\n"
    assert tokenizer(text)["input_ids"] == toy_tokenizer(text)["input_ids"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.eos_token_id, tokenizer.mask_token_id) == (0, 1)
    assert load_denoiser_model(published, tokenizer=tokenizer).config.mask_token_id == 1
