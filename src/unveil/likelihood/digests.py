"""Digests of what goes into a likelihood: weights, tokenizer, tokens. They depend on content alone.

Neither the files that a checkpoint is cut into, nor the order of tensors or rows, nor wrappers (LoRA switched off)
change a digest. All are hexadecimal SHA-256, shortened to 128 bits.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from unveil.likelihood.rows import Response
from unveil.models import unwrap

_PIECE = 16 * 2**20
# Names that peft adds around the tensors of a base model.
_PEFT_PREFIX = "base_model.model."
_PEFT_OWN = ("lora_", "modules_to_save.")
# Fields of a config that do not change the function: where it came from, how it is trained or run.
_IDLE_FIELDS = ("dropout", "_token_id", "dtype", "attn_implementation", "use_cache", "output_", "return_dict")
_IDLE_NAMES = (
    "_name_or_path",
    "transformers_version",
    "architectures",
    "auto_map",
    "problem_type",
    "id2label",
    "label2id",
)


def digest(value: Any) -> str:
    """Digest of anything that JSON can hold."""
    return digest_of_bytes(json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False).encode())


def digest_of_bytes(*parts: bytes) -> str:
    """Digest of bytes, one part after the other."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()[:32]


def digest_of_weights(model: nn.Module, adapters: bool = False) -> str:
    """Digest of the tensors as they are in memory: names, shapes, types and bytes, tensor by tensor.

    Args:
        model: not yet wrapped for distributed training (peft is known).
        adapters: count the adapters of a peft model; else it is the base model, as with adapters switched off.
    """
    lines = sorted(
        [name, str(tensor.dtype), list(tensor.shape), _digest_of(tensor)]
        for name, tensor in weights_of(model, adapters)
    )
    extra = {}
    if adapters:  # a scale that no tensor holds
        extra = {name: scale for name, module in model.named_modules() if (scale := getattr(module, "scaling", None))}
    return digest([lines, extra])


def weights_of(model: nn.Module, adapters: bool = False) -> Iterator[tuple[str, Tensor]]:
    """Parameters (tied ones once) and saved buffers, by the names that they have in the plain model."""
    saved = set(model.state_dict().keys())
    named = [*model.named_parameters(), *((name, b) for name, b in model.named_buffers() if name in saved)]
    for name, tensor in named:
        if adapters:
            yield name, tensor
        elif not any(own in name for own in _PEFT_OWN):
            plain = name.removeprefix(_PEFT_PREFIX).replace(".base_layer.", ".").replace(".original_module.", ".")
            yield plain, tensor


def _digest_of(tensor: Tensor) -> str:
    """In pieces, so that a tensor on a GPU needs no second copy of itself."""
    flat = tensor.detach().contiguous().view(-1).view(torch.uint8)
    hashed = hashlib.sha256()
    for piece in flat.split(_PIECE):
        hashed.update(piece.cpu().numpy().data)
    return hashed.hexdigest()


def settings_of_model(model: nn.Module) -> dict[str, Any]:
    """What the network computes with its weights: heads, norms, rotary base, ... from its config."""
    config = unwrap(model).config.to_dict()
    return {
        name: value
        for name, value in config.items()
        if name not in _IDLE_NAMES and not any(idle in name for idle in _IDLE_FIELDS)
    }


def digest_of_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """Vocabulary, special tokens and chat template."""
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return digest([tokenizer.get_vocab(), special, tokenizer.chat_template])


def digest_of_answer(answer: Response) -> str:
    """Name and tokens of an answer: `example_id`, prompt, scored tokens, visible tail."""
    parts = [np.array(ids, dtype="<i8") for ids in (answer.prompt_ids, answer.completion_ids, answer.tail_ids)]
    header = np.array([answer.example_id, *map(len, parts)], dtype="<i8")
    return digest_of_bytes(*(part.tobytes() for part in (header, *parts)))
