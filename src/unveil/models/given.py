"""What a user may give beside the name of a model: its mask token, a chat template, a device.

`flag` is how the value was given, up to the value itself: `--mask_token_id ` or `--model_args mask_token_id=`, so that
an error names what was typed.
"""

from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unveil.errors import UserError
from unveil.models.denoiser import Denoiser
from unveil.small_files import read_small_text


def settle_mask_token(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, given: int | None, flag: str = "--mask_token_id "
) -> None:
    """Write the mask token into the config if it is not there, so that every checkpoint of a run carries it.

    The config decides; else what was given; else the tokenizer's mask token. Raises `UserError` when the config says
    otherwise than what was given, or nothing names a mask token.
    """
    known = getattr(model.config, "mask_token_id", None)
    if given is not None and known is not None and given != known:
        raise UserError(f"{flag}{given}: the model's config says {known}; leave the flag out")
    if known is None:
        known = tokenizer.mask_token_id if given is None else given
        if known is None:
            raise UserError(
                f"{flag.rstrip(' =')}: the model's config names no mask_token_id; give the id of the mask token"
            )
        model.config.mask_token_id = known


def read_chat_template(given: str, flag: str = "--chat_template_path ") -> str:
    """The text of a Jinja file, or of the chat_template.jinja in a folder. Raises `UserError` if it cannot be read."""
    path = Path(given)
    file = path / "chat_template.jinja" if path.is_dir() else path
    return read_small_text(file, f"{flag}{path}", "give a Jinja file")


def device_named(name: str | None) -> torch.device:
    """The device of `--device`; None is a GPU if there is one. Raises `UserError` for a name that torch lacks."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: unknown; give cpu, cuda or cuda:1") from error


def denoiser_on(device: torch.device, model: PreTrainedModel) -> Denoiser:
    """The model on a device, in evaluation mode. Raises `UserError` if the device is not there or too small."""
    try:
        return Denoiser(model.to(device).eval())  # type: ignore[arg-type]
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: {' '.join(str(error).split())[:200]}; give another device") from error
