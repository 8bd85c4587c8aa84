"""What lies on disk under the weights of a model: looked at before anything is allocated.

A header of a safetensors file says which tensors it holds, of which shape and type, and how long the file must be. So
a cut file, an index that points nowhere and a configuration of another model show here, in milliseconds.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForMaskedLM, PretrainedConfig
from transformers.initialization import no_init_weights

from unveil.errors import UserError, first_line, shortened
from unveil.files import read_json

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
TORCH_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
ADAPTER_CONFIG = "adapter_config.json"
_SAMPLES, _SAMPLE_BYTES = 16, 2**16
_LAYERS = re.compile(r"(num_|n_)?(\w+_)?layers?")


def holds_weights(folder: Path) -> bool:
    """Whether a folder has the weights of a whole model, or their index."""
    return any((folder / name).is_file() for name in (WEIGHTS, INDEX, *TORCH_WEIGHTS))


def is_adapter(name: str) -> bool:
    """Whether a folder holds adapters, and not a whole model. Raises `UserError` when it holds both."""
    folder = Path(name)
    if not (folder / ADAPTER_CONFIG).is_file():
        return False
    if holds_weights(folder):
        raise UserError(
            f"{name}: holds adapters ({ADAPTER_CONFIG}) and the weights of a whole model; move one of them elsewhere"
        )
    return True


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, each whole; none where its weights are torch's own files.

    Raises:
        UserError: no weights, an unreadable index, a file that is missing, cut or something else.
    """
    if not (folder / INDEX).is_file():
        if (folder / WEIGHTS).is_file():
            _require_whole(folder / WEIGHTS)
            return [folder / WEIGHTS]
        if any((folder / name).is_file() for name in TORCH_WEIGHTS):
            return []
        raise UserError(f"{folder}: holds no weights ({WEIGHTS} or {INDEX}); is the checkpoint complete?")
    names = _listed(folder / INDEX)
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: is missing though {INDEX} lists it; copy the checkpoint again")
        _require_whole(folder / name)
    return [folder / name for name in names]


def _listed(index: Path) -> list[str]:
    try:
        content = read_json(index)
        names = list(content["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index}: cannot be read; copy the file again") from error
    wrong = next((name for name in names if not isinstance(name, str) or Path(name).name != name or not name), None)
    if wrong is not None or not names:
        said = "is empty" if not names else f"names {shortened(wrong)}, which is no file beside it"
        raise UserError(f"{index}: its weight_map {said}; copy the file again")
    if not isinstance(content.get("metadata"), dict):  # which transformers asks for
        raise UserError(f"{index}: has no metadata; copy the file again")
    return sorted(set(names))


def _require_whole(file: Path) -> None:
    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file}: is truncated or not a safetensors file ({first_line(error)}); copy it again"
        ) from error


def _shapes(files: Sequence[Path]) -> Iterator[tuple[str, list[int]]]:
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (not a mapping)
                yield name, opened.get_slice(name).get_shape()


def require_fitting_size(folder: Path, config: PretrainedConfig, files: Sequence[Path]) -> None:
    """Refuse a configuration of a far larger network than the weights are, before it takes all memory.

    Raises:
        UserError: more layers than there are tensors, twice as many numbers as there are, or no network at all.
    """
    tensors, found = _sizes(folder, files)
    for name, value in config.to_dict().items():
        if _LAYERS.fullmatch(name) and isinstance(value, int) and value > tensors:
            raise UserError(
                f"{folder}: config.json says {name}={value} but the weights are {tensors} tensors; its config.json and "
                "its weights differ"
            )
    wanted = _numbers(folder, config)
    if wanted > 2 * found:  # tied weights are counted once, and may be stored once
        raise UserError(
            f"{folder}: config.json describes {wanted:,} numbers but the weights are {found:,}; its config.json and "
            "its weights differ"
        )


def _sizes(folder: Path, files: Sequence[Path]) -> tuple[int, int]:
    """How many tensors, and numbers in them, the weights are."""
    shapes = [shape for _, shape in _shapes(files)] if files else list(_torch_shapes(folder))
    return len(shapes), sum(math.prod(shape) for shape in shapes)


def _torch_shapes(folder: Path) -> Iterator[list[int]]:
    """Of torch's own files, without their numbers; they are pickles, of which nothing but tensors is taken."""
    for file in sorted(folder.glob("pytorch_model*.bin")):
        try:
            tensors = torch.load(file, map_location="meta", weights_only=True).values()
            yield from [list(tensor.shape) for tensor in tensors]
        except Exception as error:  # unpickling raises whatever the file makes it raise
            raise UserError(
                f"{file}: the weights cannot be loaded ({first_line(error)}); copy the file again, or better "
                "model.safetensors"
            ) from error


def _numbers(folder: Path, config: PretrainedConfig) -> int:
    """Parameters of the network that a configuration describes, without memory for them."""
    try:
        with torch.device("meta"), no_init_weights():
            model: Any = AutoModelForMaskedLM.from_config(config)
    except Exception as error:  # whatever a constructor makes of a value that it did not expect
        if isinstance(error, UserError):
            raise UserError(f"{folder}: {error}") from None
        raise UserError(
            f"{folder}: config.json describes no network ({first_line(error)}); copy the file again"
        ) from error
    return sum(parameter.numel() for parameter in model.parameters())


def name_tensors(names: Iterable[str], limit: int = 3) -> str:
    """The first names in their order, whole, so that they can be looked for, and how many more there are."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:limit])
    return shown if len(ordered) <= limit else f"{shown} and {len(ordered) - limit} more"


def fingerprint_of_files(files: Sequence[Path]) -> str:
    """Digest of names, shapes, types and numbers of tensors, however they are cut into files.

    Of a tensor beyond 1 MiB, 16 pieces of 64 KiB stand for all: that tells models apart in a moment, but it is no
    checksum.
    """
    lines = []
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (not a mapping)
                tensor = opened.get_tensor(name)
                lines.append([name, str(tensor.dtype), list(tensor.shape), _sampled(tensor)])
    return hashlib.sha256(json.dumps(sorted(lines)).encode()).hexdigest()[:32]


def _sampled(tensor: torch.Tensor) -> str:
    flat = tensor.contiguous().view(-1).view(torch.uint8) if tensor.numel() else tensor.new_empty(0, dtype=torch.uint8)
    hashed = hashlib.sha256()
    if len(flat) <= _SAMPLES * _SAMPLE_BYTES:
        hashed.update(flat.numpy().data)
    else:
        last = len(flat) - _SAMPLE_BYTES
        for number in range(_SAMPLES):
            start = last * number // (_SAMPLES - 1)
            hashed.update(flat[start : start + _SAMPLE_BYTES].numpy().data)
    return hashed.hexdigest()
