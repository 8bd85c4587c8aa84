"""The model of an evaluation: base, adapters beside its weights, tokenizer, chat template, on its device."""

from pathlib import Path
from typing import cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unveil.errors import UserError
from unveil.evaluation.settings import ModelSettings
from unveil.models import (
    Denoiser,
    check_tokenizer,
    denoiser_on,
    device_named,
    load_denoiser_model,
    load_tokenizer,
    read_chat_template,
    settle_mask_token,
)


def load_model(settings: ModelSettings) -> tuple[Denoiser, PreTrainedTokenizerBase]:
    """Denoiser and tokenizer in evaluation mode. Raises `UserError` for whatever is wrong with names or weights."""
    device = device_named(settings.device)
    if settings.tokenizer:
        tokenizer = load_tokenizer(settings.tokenizer)
    else:
        tokenizer = load_tokenizer(settings.pretrained, settings.revision)
    if settings.chat_template:
        tokenizer.chat_template = read_chat_template(settings.chat_template, "--model_args chat_template=")
    model = load_denoiser_model(settings.pretrained, settings.dtype, settings.revision, settings.attn_implementation)
    if settings.peft:
        model = _with_adapters(model, settings.peft, settings.pretrained)
    settle_mask_token(model, tokenizer, settings.mask_token_id, "--model_args mask_token_id=")
    check_tokenizer(tokenizer, model)
    return denoiser_on(device, model), tokenizer


def _with_adapters(model: PreTrainedModel, folder: str, base: str) -> PreTrainedModel:
    from unveil.models.adapters import (  # peft is heavy, and only needed here
        require_base,
        warn_of_updates_too_fine,
        with_adapters,
    )

    if not (Path(folder) / "adapter_config.json").is_file():
        raise UserError(f"--model_args peft={folder}: holds no adapter_config.json; give a folder of adapters")
    require_base(folder, base)
    adapted = with_adapters(model, folder)
    warn_of_updates_too_fine(adapted, folder)
    return cast(PreTrainedModel, adapted)
