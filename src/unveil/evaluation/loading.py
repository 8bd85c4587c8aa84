"""The model of an evaluation: base, adapters merged into it, tokenizer, chat template, on its device."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unveil.errors import UserError
from unveil.evaluation.settings import ModelSettings
from unveil.models import Denoiser, check_tokenizer, load_denoiser_model, load_tokenizer


def load_model(settings: ModelSettings) -> tuple[Denoiser, PreTrainedTokenizerBase]:
    """Denoiser and tokenizer in evaluation mode. Raises `UserError` for whatever is wrong with names or weights."""
    if settings.tokenizer:
        tokenizer = load_tokenizer(settings.tokenizer)
    else:
        tokenizer = load_tokenizer(settings.pretrained, settings.revision)
    if settings.chat_template:
        tokenizer.chat_template = _template(Path(settings.chat_template))
    model = load_denoiser_model(settings.pretrained, settings.dtype, settings.revision, settings.attn_implementation)
    if settings.peft:
        model = _with_adapters(model, settings.peft, settings.pretrained)
    if getattr(model.config, "mask_token_id", None) is None:
        given = settings.mask_token_id
        model.config.mask_token_id = tokenizer.mask_token_id if given is None else given
    check_tokenizer(tokenizer, model)
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return Denoiser(model.to(device).eval()), tokenizer  # type: ignore[arg-type]
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: {' '.join(str(error).split())[:200]}; give another device") from error


def _with_adapters(model: PreTrainedModel, folder: str, base: str) -> PreTrainedModel:
    from peft import PeftModel  # heavy, and only needed here

    if not (Path(folder) / "adapter_config.json").is_file():
        raise UserError(f"--model_args peft={folder}: holds no adapter_config.json; give a folder of adapters")
    try:
        merged: Any = PeftModel.from_pretrained(model, folder).merge_and_unload()  # type: ignore[operator]
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"--model_args peft={folder}: the adapter does not load onto {base} ({first})") from error
    return merged


def _template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"--model_args chat_template={path}: cannot be read ({reason}); give a Jinja file") from error
