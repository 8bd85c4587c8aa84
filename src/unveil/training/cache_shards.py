"""One file of a reference cache: the values of some answers in one epoch. Safetensors, written whole or not at all.

    example_ids [n], size_ids [n]    names of the answers (`Key`)
    draws [n]                        K of each answer
    hidden [sum of K]                number of hidden tokens of each draw
    log_p [sum of hidden]            log p of each of them, nats, in the precision that they were computed in

The header names the cache that the file belongs to, and a checksum of the tensors: a file that was cut, changed or put
there by mistake is noticed. Its bytes depend on its content alone.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from unveil.errors import UserError, first_line
from unveil.files import write_bytes
from unveil.likelihood.digests import digest, digest_of_bytes
from unveil.training.cache_keys import Key

_HEADER = "unveil_reference_values"
_NAMES = ("example_ids", "size_ids", "draws", "hidden", "log_p")

Draws = tuple[torch.Tensor, ...]
"""log p of the hidden tokens, one tensor `[l]` per draw."""


class DamagedShardError(UserError):
    """A file that cannot be used; its values have to be computed again."""


def shard_name(keys: Sequence[Key]) -> str:
    """The file name of the values of these keys, all of one epoch."""
    epoch = f"epoch-{keys[0].epoch}" if keys[0].epoch >= 0 else "held-out"
    return f"{epoch}-from-{keys[0].example_id}-{digest(keys)[:8]}.safetensors"


def write_shard(path: Path, identity: str, values: Mapping[Key, Draws]) -> None:
    """Write the values, all of one epoch, in their order."""
    tensors = {
        "example_ids": torch.tensor([key.example_id for key in values]),
        "size_ids": torch.tensor([key.size_id for key in values]),
        "draws": torch.tensor([len(draws) for draws in values.values()]),
        "hidden": torch.tensor([len(log_p) for draws in values.values() for log_p in draws]),
        "log_p": torch.cat([log_p for draws in values.values() for log_p in draws]),
    }
    (epoch,) = {key.epoch for key in values}
    # One entry: safetensors writes several in no fixed order.
    header = {"cache": identity, "epoch": epoch, "checksum": _checksum(tensors)}
    write_bytes(path, save(tensors, metadata={_HEADER: json.dumps(header)}))


def read_shard(path: Path, identity: str) -> dict[Key, Draws]:
    """The values in a file.

    Raises:
        DamagedShardError: it is cut, its content is not what was written, or it belongs to another cache.
    """
    keys, tensors = _checked(path, identity)
    draws = iter(tensors["log_p"].split(tensors["hidden"].tolist()))
    counts = tensors["draws"].tolist()
    return {key: tuple(next(draws) for _ in range(count)) for key, count in zip(keys, counts, strict=True)}


def keys_of_shard(path: Path, identity: str) -> list[Key]:
    """The names of the values in a file; raises as `read_shard`."""
    return _checked(path, identity)[0]


def _checked(path: Path, identity: str) -> tuple[list[Key], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(json.loads((file.metadata() or {})[_HEADER]))
            tensors = {name: file.get_tensor(name) for name in _NAMES}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise DamagedShardError(f"{path}: is cut or is no file of a reference cache ({first_line(error)})") from error
    if header.get("cache") != identity:
        raise DamagedShardError(f"{path}: belongs to another reference cache")
    if header.get("checksum") != _checksum(tensors):
        raise DamagedShardError(f"{path}: its content is not what was written")
    names = zip(tensors["example_ids"].tolist(), tensors["size_ids"].tolist())
    epoch: Any = header.get("epoch")
    keys = [Key(epoch, example_id, size_id) for example_id, size_id in names]
    if type(epoch) is not int or path.name != shard_name(keys):  # the name says whose values these are
        raise DamagedShardError(f"{path}: holds the values of other answers than its name says")
    return keys, tensors


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    return digest_of_bytes(*(tensors[name].contiguous().view(torch.uint8).numpy().tobytes() for name in _NAMES))
