"""Load a denoiser and its tokenizer, or say in one line why not.

transformers initialises at random what a checkpoint lacks and goes on with a warning. A likelihood computed with half
random weights looks like any other number, so here every missing, unexpected or misshapen tensor is an error.
"""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from unveil.errors import UserError
from unveil.models.configuration_llada import LLaDAConfig
from unveil.models.modeling_llada import LLaDAModelLM

_INDEX = "model.safetensors.index.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_TORCH_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def load_tokenizer(name_or_path: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub model or a local folder. Raises `UserError` when there is none or it is unreadable."""
    name = _existing(name_or_path)
    if Path(name).is_dir() and not any((Path(name) / file).is_file() for file in _TOKENIZER_FILES):
        raise UserError(
            f"{name}: holds no tokenizer ({' or '.join(_TOKENIZER_FILES)}); save the tokenizer beside the model"
        )
    try:
        return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise UserError(f"{name}: the tokenizer cannot be loaded ({_first_line(error)}); check its files") from error


def load_config(name_or_path: str | Path, revision: str | None = None) -> PretrainedConfig:
    """The configuration alone, without weights; of a folder of LoRA adapters, that of its base model.

    Raises `UserError` for a name that leads nowhere, an unreadable file or an unknown architecture.
    """
    name = _existing(name_or_path)
    if not _is_adapter(name):
        return _load_config(name, revision)
    base, base_revision = _base_of(name)
    return load_config(base, base_revision)


def load_denoiser_model(
    name_or_path: str | Path,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    attn_implementation: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> PreTrainedModel:
    """A masked language model in evaluation mode, from the hub or a local folder; no remote code is run.

    `name_or_path` may be a LoRA adapter folder: its base model is loaded and the adapter merged into it.
    `dtype` None keeps the checkpoint's. With `tokenizer`, `check_tokenizer` is applied.
    Raises `UserError` for whatever is wrong with the name, the configuration or the weights.
    """
    name = _existing(name_or_path)
    if _is_adapter(name):
        model = _load_with_adapter(name, dtype, attn_implementation)
    else:
        config = _load_config(name, revision)
        if isinstance(config, LLaDAConfig) and not LLaDAModelLM.knows_attention(attn_implementation):
            raise UserError(
                f"--attn_implementation {attn_implementation}: LLaDA computes attention with torch's sdpa or varlen "
                "or with a flash-attention; leave the flag out (the best that fits is taken) or give sdpa"
            )
        if Path(name).is_dir():
            _check_weight_files(Path(name))
        model = _load_weights(name, config, _as_dtype(dtype), revision, attn_implementation)
    if tokenizer is not None:
        check_tokenizer(tokenizer, model)
    return model


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Refuse a tokenizer that produces ids without an embedding, or has another mask token than the model."""
    embedding: Any = model.get_input_embeddings()
    rows, largest = embedding.num_embeddings, max(tokenizer.get_vocab().values(), default=-1)
    where = f"tokenizer {tokenizer.name_or_path}".rstrip()
    if largest >= rows:
        raise UserError(
            f"{where}: its ids go up to {largest} but the model has {rows} embedding rows; "
            "use the tokenizer that the model was made with"
        )
    ours, theirs = getattr(model.config, "mask_token_id", None), tokenizer.mask_token_id
    if ours is not None and theirs is not None and ours != theirs:
        raise UserError(
            f"{where}: its mask token has id {theirs} but the model's config says mask_token_id={ours}; "
            "use the tokenizer that the model was made with"
        )


def _existing(name_or_path: str | Path) -> str:
    """The name as transformers takes it; a path that is clearly local must be a folder."""
    name = str(name_or_path)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.exists():
        raise UserError(f"{name}: is a file; give the folder that holds config.json and the weights")
    if not name or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or name.endswith("/"):
        raise UserError(f"{name!r}: there is no such folder; check --model_name_or_path")
    return name


def _load_config(name: str, revision: str | None) -> PretrainedConfig:
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise UserError(f"{name}: config.json is missing; is this the folder of a model?")
    model_type = None
    try:
        fields, _ = PretrainedConfig.get_config_dict(name, revision=revision)
        model_type = fields.get("model_type")
        if model_type is None:
            raise UserError(f"{name}: config.json names no model_type; is this the folder of a model?")
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except UserError as error:
        raise error if str(error).startswith(name) else UserError(f"{name}: {error}") from None
    except OSError as error:
        raise UserError(_unreadable_config(name, error)) from error
    except ValueError as error:
        raise UserError(_unknown_type(name, model_type)) from error
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise UserError(_unknown_type(name, model_type))
    return config


def _unknown_type(name: str, model_type: str | None) -> str:
    return (
        f"{name}: model_type {model_type!r} in config.json is not a masked language model known here; "
        "use llada or a masked language model of transformers, or build the model yourself and give it to Denoiser"
    )


def _unreadable_config(name: str, error: OSError) -> str:
    if Path(name).is_dir():
        return f"{name}: config.json is not valid JSON; copy it again"
    return f"{name}: neither a folder here nor readable on the Hugging Face hub ({_first_line(error)}); check the name"


def _as_dtype(dtype: str | torch.dtype | None) -> str | torch.dtype:
    if dtype is None or dtype == "auto":
        return "auto"
    resolved = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(resolved, torch.dtype) or not resolved.is_floating_point:
        raise UserError(f"--dtype {dtype}: not a floating-point type; give auto, float32, bfloat16 or float16")
    return resolved


def _check_weight_files(folder: Path) -> None:
    """Open the header of every weight file: it says how long the file must be, so truncation shows here."""
    index = folder / _INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{index}: cannot be read; copy the file again") from error
    elif (folder / "model.safetensors").is_file():
        names = ["model.safetensors"]
    elif any((folder / name).is_file() for name in _TORCH_WEIGHTS):
        return
    else:
        raise UserError(f"{folder}: holds no weights (model.safetensors or {_INDEX}); is the checkpoint complete?")
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: is missing though {_INDEX} lists it; copy the checkpoint again")
        try:
            with safe_open(folder / name, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{folder / name}: is truncated or not a safetensors file ({_first_line(error)}); copy it again"
            ) from error


def _load_weights(
    name: str,
    config: PretrainedConfig,
    dtype: str | torch.dtype,
    revision: str | None,
    attn_implementation: str | None,
) -> PreTrainedModel:
    extra = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    try:
        with _quiet():
            model, info = AutoModelForMaskedLM.from_pretrained(
                name,
                config=config,
                dtype=dtype,
                revision=revision,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, all of them and by name
                **extra,
            )
    except SafetensorError as error:
        raise UserError(
            f"{name}: a weight file is truncated ({_first_line(error)}); delete it from the hub cache and try again"
        ) from error
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{name}: the model cannot be loaded ({_first_line(error)}); see the message") from error
    _check_loading_info(name, info)
    _check_tying(name, model)
    return model


def _check_loading_info(name: str, info: dict[str, Any]) -> None:
    shapes = [f"{key} is {list(found)}, not {list(wanted)}" for key, found, wanted in info["mismatched_keys"]]
    for problem, found in (
        ("lacks the tensor", info["missing_keys"]),
        ("has tensors of another shape:", shapes),
        ("holds the unknown tensor", info["unexpected_keys"]),
    ):
        if found:
            raise UserError(f"{name}: the checkpoint {problem} {_few(found)}; its config.json and its weights differ")


def _check_tying(name: str, model: PreTrainedModel) -> None:
    if not isinstance(model, LLaDAModelLM) or not model.config.weight_tying:
        return
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        raise UserError(
            f"{name}: config.json says weight_tying but the checkpoint holds a head of its own; "
            "set weight_tying to false"
        )


def _is_adapter(name: str) -> bool:
    folder = Path(name)
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def _base_of(name: str) -> tuple[str, str | None]:
    """The base model that a folder of adapters names, and its revision."""
    from peft import PeftConfig  # heavy, and only needed here

    try:
        adapter = PeftConfig.from_pretrained(name)
        base = adapter.base_model_name_or_path
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{name}: adapter_config.json cannot be read ({_first_line(error)}); save it again") from error
    if not base:
        raise UserError(f"{name}: adapter_config.json names no base model; fill in base_model_name_or_path")
    return base, adapter.revision


def _load_with_adapter(name: str, dtype: str | torch.dtype | None, attn_implementation: str | None) -> PreTrainedModel:
    from peft import PeftModel

    base, revision = _base_of(name)
    model = load_denoiser_model(base, dtype, revision, attn_implementation)
    try:
        merged = PeftModel.from_pretrained(model, name).merge_and_unload()  # type: ignore[operator]
        return merged.requires_grad_(True)  # peft had frozen the base, but this is one model now
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: the adapter does not load onto {base} ({_first_line(error)})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' loading table: what it would say is raised as an error."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _few(names: Collection[str], limit: int = 3) -> str:
    ordered = sorted(names)
    shown = ", ".join(ordered[:limit])
    return shown if len(ordered) <= limit else f"{shown} and {len(ordered) - limit} more"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
