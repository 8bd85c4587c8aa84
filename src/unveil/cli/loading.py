"""From flags to a tokenizer and a model that fit one another."""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unveil.cli.options import LoadArguments, UseArguments
from unveil.errors import UserError
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


def read_tokenizer(args: LoadArguments, name: str) -> PreTrainedTokenizerBase:
    """The tokenizer beside model `name`, or the one that the flags name, with the chat template of the flags."""
    if args.tokenizer_name_or_path:
        tokenizer = load_tokenizer(args.tokenizer_name_or_path)
    else:
        tokenizer = load_tokenizer(name, _revision(args, name))
    if args.chat_template_path:
        tokenizer.chat_template = read_chat_template(args.chat_template_path)
    return tokenizer


def _revision(args: LoadArguments, name: str) -> str | None:
    """`--model_revision` is about `--model_name_or_path`, not about a reference or another model."""
    return args.model_revision if name == args.model_name_or_path else None


def read_model(
    args: LoadArguments,
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    dtype: str | torch.dtype | None,
    trainable: bool = False,
) -> PreTrainedModel:
    """Model `name` in evaluation mode, whose config names the mask token and fits the tokenizer.

    trainable: adapters, if it has any, will be trained further.
    """
    model = load_denoiser_model(name, dtype, _revision(args, name), args.attn_implementation, trainable=trainable)
    settle_mask_token(model, tokenizer, args.mask_token_id)
    check_tokenizer(tokenizer, model)
    return model


def load_for_use(
    args: UseArguments, name: str, tokenizer: PreTrainedTokenizerBase | None = None
) -> tuple[Denoiser, PreTrainedTokenizerBase]:
    """Model `name` on its device, ready to be asked, with its tokenizer, or with the one that it must share."""
    device = device_named(args.device)
    tokenizer = tokenizer or read_tokenizer(args, name)
    model = read_model(args, name, tokenizer, args.dtype)
    return denoiser_on(device, model), tokenizer


def require_same_family(denoiser: Denoiser, reference: Denoiser, name: str) -> None:
    """Policy and reference read the same ids, so they must mean the same by them."""
    if (reference.mask_token_id, reference.vocab_size) != (denoiser.mask_token_id, denoiser.vocab_size):
        raise UserError(f"--ref_model_name_or_path {name}: has another vocabulary; give a model of the same family")
