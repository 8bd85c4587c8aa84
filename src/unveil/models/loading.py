"""Load a denoiser and its tokenizer, or say in one line why not.

transformers initialises at random what a checkpoint lacks and goes on with a warning. A likelihood computed with half
random weights looks like any other number, so here every missing, unexpected or misshapen tensor is an error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from unveil.errors import UserError, first_line
from unveil.hub import hub_is_offline
from unveil.models.as_written import CONFIGS, TOKENIZER, WEIGHTS, require_files_as_written
from unveil.models.configuration_llada import LLaDAConfig
from unveil.models.modeling_llada import LLaDAModelLM
from unveil.models.weight_files import is_adapter, name_tensors, require_fitting_size, weight_files

if TYPE_CHECKING:
    from peft import PeftModel

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def load_tokenizer(name_or_path: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub model or a local folder. Raises `UserError` when there is none or it is unreadable."""
    name = _existing(name_or_path)
    if Path(name).is_dir() and not any((Path(name) / file).is_file() for file in _TOKENIZER_FILES):
        raise UserError(
            f"{name}: holds no tokenizer ({' or '.join(_TOKENIZER_FILES)}); save the tokenizer beside the model"
        )
    require_files_as_written(name, TOKENIZER)
    try:
        return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        if not Path(name).is_dir():
            _require_on_hub(name, revision)
        raise UserError(f"{name}: the tokenizer cannot be loaded ({first_line(error)}); check its files") from error


def load_config(name_or_path: str | Path, revision: str | None = None) -> PretrainedConfig:
    """The configuration alone, without weights; of a folder of LoRA adapters, that of its base model.

    Raises `UserError` for a name that leads nowhere, an unreadable file or an unknown architecture.
    """
    name = _existing(name_or_path)
    require_files_as_written(name, CONFIGS)
    if not is_adapter(name):
        return _load_config(name, revision)
    from unveil.models.adapters import base_of  # peft is heavy, and only needed here

    base = base_of(name)
    return load_config(base.name, base.revision)


def load_denoiser_model(
    name_or_path: str | Path,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    attn_implementation: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    trainable: bool = False,
) -> PreTrainedModel:
    """A masked language model in evaluation mode, from the hub or a local folder; no remote code is run.

    `name_or_path` may be a folder of LoRA adapters: they stay beside the weights of their base model (a `PeftModel`,
    which passes on what a `PreTrainedModel` is asked), and with `trainable` they can be trained further.
    `dtype` None keeps the checkpoint's, for adapters the one that they were trained in. With `tokenizer`,
    `check_tokenizer` is applied.
    Raises `UserError` for whatever is wrong with the name, the configuration or the weights.
    """
    name = _existing(name_or_path)
    require_files_as_written(name, (*CONFIGS, *WEIGHTS))
    if is_adapter(name):
        from unveil.models.adapters import warn_of_updates_too_fine  # peft is heavy, and only needed here

        adapted = load_adapters(name, dtype, attn_implementation, trainable)
        warn_of_updates_too_fine(adapted, name)
        model = cast(PreTrainedModel, adapted)
    else:
        config = _load_config(name, revision)
        if isinstance(config, LLaDAConfig) and not LLaDAModelLM.knows_attention(attn_implementation):
            raise UserError(
                f"--attn_implementation {attn_implementation}: LLaDA computes attention with torch's sdpa or varlen "
                "or with a flash-attention; leave the flag out (the best that fits is taken) or give sdpa"
            )
        if Path(name).is_dir():
            require_fitting_size(Path(name), config, weight_files(Path(name)))
        model = _load_weights(name, config, dtype_named(dtype), revision, attn_implementation)
    if tokenizer is not None:
        check_tokenizer(tokenizer, model)
    return model


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Refuse a tokenizer that produces ids without an embedding, or has another mask token than the model."""
    embedding: Any = model.get_input_embeddings()
    rows, largest = len(embedding.weight), max(tokenizer.get_vocab().values(), default=-1)
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
    hub_is_offline()
    return name


def _load_config(name: str, revision: str | None) -> PretrainedConfig:
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise UserError(f"{name}: config.json is missing; is this the folder of a model?")
    model_type = None
    try:
        fields, _ = PretrainedConfig.get_config_dict(name, revision=revision)
        if not isinstance(fields, dict):
            raise UserError(f"{name}: config.json is no mapping; is this the folder of a model?")
        model_type = fields.get("model_type")
        if model_type is None:
            raise UserError(f"{name}: config.json names no model_type; is this the folder of a model?")
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except UserError as error:
        raise error if str(error).startswith(name) else UserError(f"{name}: {error}") from None
    except OSError as error:
        raise UserError(_unreadable_config(name, error)) from error
    except Exception as error:  # whatever a configuration makes of values that it did not expect
        if model_type not in CONFIG_MAPPING:
            raise UserError(_unknown_type(name, model_type)) from error
        raise UserError(f"{name}: config.json is of no use ({first_line(error)}); correct it") from error
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
    reason = "which is not reached, and its cache lacks it" if hub_is_offline() else first_line(error)
    return f"{name}: neither a folder here nor readable on the Hugging Face hub ({reason}); check the name"


def _require_on_hub(name: str, revision: str | None) -> None:
    """Refuse a name that the hub does not know, so that nothing else is blamed for it."""
    try:
        PretrainedConfig.get_config_dict(name, revision=revision)
    except OSError as error:
        raise UserError(_unreadable_config(name, error)) from error


def dtype_named(dtype: str | torch.dtype | None) -> Any:
    """A floating-point type of torch, or "auto" for the checkpoint's. Raises `UserError` for any other."""
    if dtype is None or dtype == "auto":
        return "auto"
    resolved = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if resolved not in _DTYPES:
        raise UserError(f"--dtype {dtype}: is no type to compute in; give auto, float32, bfloat16 or float16")
    return resolved


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
    except Exception as error:  # whatever transformers and torch make of a damaged file
        remedy = "copy its files again" if Path(name).is_dir() else "delete it from the hub cache and try again"
        raise UserError(f"{name}: the weights cannot be loaded ({first_line(error)}); {remedy}") from error
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
            raise UserError(
                f"{name}: the checkpoint {problem} {name_tensors(found)}; its config.json and its weights differ"
            )


def _check_tying(name: str, model: PreTrainedModel) -> None:
    if not isinstance(model, LLaDAModelLM) or not model.config.weight_tying:
        return
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        raise UserError(
            f"{name}: config.json says weight_tying but the checkpoint holds a head of its own; "
            "set weight_tying to false"
        )


def load_adapters(
    name: str,
    dtype: str | torch.dtype | None = None,
    attn_implementation: str | None = None,
    trainable: bool = False,
) -> "PeftModel":
    """The adapters of a folder beside their base, as in `load_denoiser_model`, whose warning of coarse numbers is left
    to whoever uses them. Raises `UserError` for whatever is wrong with adapters or base."""
    from unveil.models.adapters import base_of, with_adapters

    base = base_of(name)
    model = load_denoiser_model(base.name, dtype or base.dtype, base.revision, attn_implementation)
    if getattr(model.config, "mask_token_id", None) is None:
        model.config.mask_token_id = base.mask_token_id
    return with_adapters(model, name, trainable)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' loading table: what it would say is raised as an error."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
