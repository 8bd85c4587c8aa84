"""Adapters (LoRA) beside the weights that they were trained on, so that what was trained is what is loaded.

They are never merged in passing: an update at a small learning rate is finer than a step of bfloat16, and a merged
embedding would move a head that is tied to it. `merging` does it on demand and says what was lost.

A folder of adapters names its base. `base_model.json` beside them keeps what must not change silently: where the base
was, a fingerprint of its weights, the precision that it was trained in and its mask token.
"""

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils import PeftType
from peft.utils.other import AuxiliaryTrainingWrapper
from peft.utils.save_and_load import load_peft_weights
from torch import Tensor, nn
from transformers import PreTrainedModel

from unveil.errors import UserError, first_line, warn_user
from unveil.files import read_json, write_json
from unveil.models.as_written import CONFIGS, WEIGHTS, require_files_as_written
from unveil.models.weight_files import ADAPTER_CONFIG, fingerprint_of_files, holds_weights, name_tensors, weight_files

ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
BASE_RECORD = "base_model.json"


class Base(NamedTuple):
    """The model that adapters belong to, as they name it."""

    name: str
    revision: str | None
    dtype: str | None
    """The precision that the adapters were trained beside, if they say so."""
    mask_token_id: int | None


def adapter_config(folder: str) -> PeftConfig:
    """What adapter_config.json says. Raises `UserError` when it cannot be read or is of a kind without matrices."""
    try:
        config = PeftConfig.from_pretrained(folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"no known peft_type: {error}" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"{folder}: {ADAPTER_CONFIG} cannot be read ({reason}); save it again") from error
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise UserError(
            f"{folder}: peft_type {config.peft_type} adds tokens, which a denoiser cannot take; train LoRA adapters"
        )
    return config


def base_of(folder: str) -> Base:
    """The base model that a folder of adapters names, looked for where it was and, moved along, beside the adapters.

    Raises:
        UserError: adapter_config.json is damaged or names none, or the base is where it was but no longer the same.
    """
    config = adapter_config(folder)
    name = config.base_model_name_or_path
    if not name:
        raise UserError(f"{folder}: {ADAPTER_CONFIG} names no base model; fill in base_model_name_or_path")
    record = _record(folder)
    moved = record.get("beside")
    if not Path(name).is_dir() and moved and (Path(folder) / moved).is_dir():
        name = os.path.normpath(Path(folder) / moved)
    if Path(name).is_dir():
        if not Path(name).is_absolute() and not record.get("fingerprint"):
            warn_user(
                f"{folder}: names its base model by the relative path {name}, taken from {Path.cwd()}; write the whole "
                f"path into {ADAPTER_CONFIG} if that is another model"
            )
        require_base(folder, name)
    elif Path(name).is_absolute():
        raise UserError(
            f"{folder}: its base model {name} is no longer there; put it back, or write its new place into "
            f"base_model_name_or_path of {ADAPTER_CONFIG}"
        )
    dtype = record.get("dtype")
    known = dtype if isinstance(getattr(torch, str(dtype), None), torch.dtype) else None
    mask = record.get("mask_token_id")
    return Base(name, config.revision, known, mask if isinstance(mask, int) else None)


def require_base(folder: str, base: str) -> None:
    """Refuse another base than the one that adapters were trained on, as far as they keep a fingerprint of it."""
    expected = _record(folder).get("fingerprint")
    if expected and Path(base).is_dir():
        files = weight_files(Path(base))
        if files and fingerprint_of_files(files) != expected:
            raise UserError(
                f"{folder}: was trained on other weights than {base} holds now; give it its base back, or, if the "
                f"change is meant, remove {Path(folder) / BASE_RECORD} and checksums.json beside it"
            )


def _record(folder: str) -> dict[str, Any]:
    path = Path(folder) / BASE_RECORD
    if not path.is_file():
        return {}
    try:
        record = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}); copy the adapters again") from error
    if not isinstance(record, dict):
        raise UserError(f"{path}: is no mapping; copy the adapters again")
    return record


def record_of_base(model: PeftModel) -> dict[str, Any]:
    """What `base_model.json` will say, and the whole path of a local base into the adapters' own configuration.

    Call it before training: the folder may change while it runs. `{}` for a base that is in memory only.
    """
    base = cast(PreTrainedModel, model.get_base_model())
    found: dict[str, Any] = {
        "dtype": str(base.dtype).removeprefix("torch."),
        "mask_token_id": getattr(base.config, "mask_token_id", None),
    }
    name = base.config.name_or_path or model.active_peft_config.base_model_name_or_path
    if name and Path(name).is_dir():
        name = str(Path(name).resolve())
        files = weight_files(Path(name)) if holds_weights(Path(name)) else []
        found = {"path": name, "fingerprint": fingerprint_of_files(files) if files else None, **found}
    for config in model.peft_config.values():
        config.base_model_name_or_path = name or config.base_model_name_or_path
    return found


def write_record(record: dict[str, Any], folder: str | Path) -> None:
    """Write `base_model.json` beside adapters that were saved."""
    extra = {}
    if record.get("path"):
        extra["beside"] = os.path.relpath(record["path"], Path(folder).resolve())
    write_json(Path(folder) / BASE_RECORD, {**record, **extra})


def with_adapters(model: PreTrainedModel, folder: str, trainable: bool = False) -> PeftModel:
    """The model with the adapters of a folder beside its weights, in evaluation mode.

    Raises:
        UserError: no adapters there, another base, or tensors that are missing, unknown, misshapen or not finite.
    """
    require_files_as_written(folder, (*CONFIGS, *WEIGHTS))
    config = adapter_config(folder)
    if not any((Path(folder) / name).is_file() for name in ADAPTER_WEIGHTS):
        raise UserError(f"{folder}: holds no adapter weights ({ADAPTER_WEIGHTS[0]}); is the folder complete?")
    where = model.config.name_or_path or type(model).__name__
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing tensors are refused below, tied ones are loaded as trained
            found = load_peft_weights(folder, device="cpu")
            adapted = PeftModel.from_pretrained(model, folder, is_trainable=trainable, config=config)
    except Exception as error:  # peft and torch raise what comes, down to bare KeyError
        raise UserError(f"{folder}: the adapter does not load onto {where} ({first_line(error)})") from error
    wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    known = {*wanted, *(name.replace(".base_layer.", ".") for name in model.state_dict())}
    known |= {f"base_model.model.{name}" for name in known}
    for problem, names in (
        ("lacks the tensor", wanted.keys() - found.keys()),
        ("holds the unknown tensor", {name for name in found if name.replace(".base_layer.", ".") not in known}),
        ("holds numbers that are not finite in", {name for name, value in found.items() if not value.isfinite().all()}),
    ):
        if names:
            raise UserError(f"{folder}: the adapter {problem} {name_tensors(names)}; copy or save the adapter again")
    if not trainable:
        adapted.requires_grad_(False)  # what peft casts to float32 it makes anew, to be trained
    return adapted.eval()


def warn_of_updates_too_fine(model: PeftModel, folder: str) -> None:
    """Warn where adapters change the weights by less than the model's precision resolves.

    An adapted layer adds its update to an output that is rounded already, so an update below a quarter of the rounding
    step (of the typical layer, relative to its weights) is mostly rounded away again, in training as in use.
    """
    dtype = cast(PreTrainedModel, model.get_base_model()).dtype
    changes = [change for module in model.modules() if (change := _relative_update(module)) is not None]
    if dtype.itemsize >= 4 or not changes:
        return
    typical = float(torch.tensor(changes).median())
    if 0 < typical < torch.finfo(dtype).eps / 4:
        warn_user(
            f"{folder}: its adapters change the weights by {typical:.2g} of their size, which is finer than "
            f"{str(dtype).removeprefix('torch.')} resolves; give --dtype float32 to see all that was learned"
        )


@torch.no_grad()
def _relative_update(module: nn.Module) -> float | None:
    """`|scaling B A| / |W|` (Frobenius) of a linear layer with LoRA; None for what is none."""
    layer: Any = module
    weight = getattr(layer.get_base_layer(), "weight", None) if isinstance(module, LoraLayer) else None
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        return None
    squared = 0.0
    for name in layer.active_adapters:
        if name in layer.lora_A:
            down, up = layer.lora_A[name].weight.float(), layer.lora_B[name].weight.float()
            if down.dim() == 2:
                squared += layer.scaling[name] ** 2 * float(((down @ down.T) * (up.T @ up)).sum())
    size = float(weight.float().norm())
    return max(squared, 0.0) ** 0.5 / size if size else None


def starts_as_base(model: nn.Module) -> bool:
    """Whether adapters do not change the model yet, as peft makes them: then switched off they are its start."""
    configs: Any = getattr(model, "peft_config", {})
    if not all(config.peft_type == PeftType.LORA and _plain_start(config) for config in configs.values()):
        return False
    if any(parameter.requires_grad and "lora_" not in name for name, parameter in model.named_parameters()):
        return False  # weights of the base that are trained as well cannot be switched off
    return all(_adds_nothing(module) for module in model.modules())


def _adds_nothing(module: nn.Module) -> bool:
    if not isinstance(module, LoraLayer):
        return not isinstance(module, AuxiliaryTrainingWrapper)
    linear = zip(module.lora_A.values(), module.lora_B.values())
    lookups = zip(module.lora_embedding_A.values(), module.lora_embedding_B.values())
    return all(any(_is_zero(factor) for factor in pair) for pair in (*linear, *lookups))


def _is_zero(factor: nn.Module | Tensor) -> bool:
    return not any(part.any() for part in ([factor] if isinstance(factor, Tensor) else factor.parameters()))


def _plain_start(config: Any) -> bool:
    """PiSSA, OLoRA, ... take their start out of the base weights: switched off, something else is left. Biases that are
    trained cannot be switched off at all."""
    if config.use_dora or config.bias != "none":
        return False
    return isinstance(config.init_lora_weights, bool) or config.init_lora_weights == "gaussian"
