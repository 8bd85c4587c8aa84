"""From flags to a tokenizer and a model that fit one another."""

from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unveil.cli.options import LoadArguments, UseArguments
from unveil.errors import UserError
from unveil.models import Denoiser, check_tokenizer, load_denoiser_model, load_tokenizer


def read_tokenizer(args: LoadArguments, name: str) -> PreTrainedTokenizerBase:
    """The tokenizer beside model `name`, or the one that the flags name, with the chat template of the flags."""
    if args.tokenizer_name_or_path:
        tokenizer = load_tokenizer(args.tokenizer_name_or_path)
    else:
        tokenizer = load_tokenizer(name, _revision(args, name))
    if args.chat_template_path:
        tokenizer.chat_template = _read_template(Path(args.chat_template_path))
    return tokenizer


def _revision(args: LoadArguments, name: str) -> str | None:
    """`--model_revision` is about `--model_name_or_path`, not about a reference or another model."""
    return args.model_revision if name == args.model_name_or_path else None


def _read_template(path: Path) -> str:
    file = path / "chat_template.jinja" if path.is_dir() else path
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"--chat_template_path {path}: cannot be read ({reason}); give a Jinja file") from error


def read_model(
    args: LoadArguments, name: str, tokenizer: PreTrainedTokenizerBase, dtype: str | torch.dtype | None
) -> PreTrainedModel:
    """Model `name` in evaluation mode, whose config names the mask token and fits the tokenizer."""
    model = load_denoiser_model(name, dtype, _revision(args, name), args.attn_implementation)
    settle_mask_token(model, tokenizer, args.mask_token_id)
    check_tokenizer(tokenizer, model)
    return model


def settle_mask_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, given: int | None) -> None:
    """Write the mask token into the config if it is not there, so that every checkpoint of a run carries it.

    The config decides; else `--mask_token_id`; else the tokenizer's mask token.
    """
    known = getattr(model.config, "mask_token_id", None)
    if given is not None and known is not None and given != known:
        raise UserError(f"--mask_token_id {given}: the model's config says {known}; leave the flag out")
    if known is None:
        model.config.mask_token_id = tokenizer.mask_token_id if given is None else given


def load_for_use(
    args: UseArguments, name: str, tokenizer: PreTrainedTokenizerBase | None = None
) -> tuple[Denoiser, PreTrainedTokenizerBase]:
    """Model `name` on its device, ready to be asked, with its tokenizer, or with the one that it must share."""
    device = _device(args.device)
    tokenizer = tokenizer or read_tokenizer(args, name)
    model = read_model(args, name, tokenizer, args.dtype)
    try:
        return Denoiser(model.to(device)), tokenizer  # type: ignore[arg-type]
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: {' '.join(str(error).split())[:200]}; give another device") from error


def require_same_family(denoiser: Denoiser, reference: Denoiser, name: str) -> None:
    """Policy and reference read the same ids, so they must mean the same by them."""
    if (reference.mask_token_id, reference.vocab_size) != (denoiser.mask_token_id, denoiser.vocab_size):
        raise UserError(f"--ref_model_name_or_path {name}: has another vocabulary; give a model of the same family")


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: unknown; give cpu, cuda or cuda:1") from error
