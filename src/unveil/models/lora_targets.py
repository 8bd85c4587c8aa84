"""Which modules LoRA adapts: the words of `--lora_target_modules`, and what is meant without them, for every family."""

import re
from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from unveil.errors import UserError, name_some
from unveil.models.modeling_llada import LORA_TARGETS, LLaDAModelLM

ALL_LINEAR = "all-linear"
_NAME = re.compile(r"[\w.]+")
_BLOCK = re.compile(r".*\.\d+\.(?P<rest>\D[^.]*(\.\D[^.]*)*)")


def read_targets(words: Sequence[str] | str | None) -> list[str] | str | None:
    """Names of modules as a list, as peft takes them; `all-linear` or one regular expression of whole names as text.

    Names may be apart or joined by commas.

    Raises:
        UserError: names and a pattern at once, or a pattern that is none.
    """
    given = [words] if isinstance(words, str) else list(words or ())
    parts = [part for word in given for part in (word.split(",") if re.fullmatch(r"[\w.,]+", word) else [word]) if part]
    if not parts:
        return None
    if all(_NAME.fullmatch(part) for part in parts):
        return list(dict.fromkeys(parts))
    if len(parts) > 1:
        raise UserError(
            f"--lora_target_modules {' '.join(given)}: give names of modules, or one regular expression of their whole "
            "names, or all-linear"
        )
    if parts[0].lower() == ALL_LINEAR:
        return ALL_LINEAR
    try:
        re.compile(parts[0])
    except re.error as error:
        raise UserError(
            f"--lora_target_modules {parts[0]}: neither names of modules nor a regular expression ({error}); correct it"
        ) from error
    return parts[0]


def default_targets(model: nn.Module) -> str:
    """Every linear layer of the blocks, not the head, as a pattern; all linear layers where there are no blocks."""
    if isinstance(model, LLaDAModelLM):
        return LORA_TARGETS
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    found = (
        _BLOCK.fullmatch(name)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    )
    names = sorted({match["rest"] for match in found if match})
    return rf".*\.\d+\.({'|'.join(map(re.escape, names))})" if names else ALL_LINEAR


def require_targets(model: nn.Module, targets: Sequence[str] | str) -> None:
    """Refuse names that no module of the model ends in: peft leaves them out without a word if another one fits."""
    if isinstance(targets, str):
        return
    modules = [name for name, _ in model.named_modules()]
    unknown = [one for one in targets if not any(name == one or name.endswith(f".{one}") for name in modules)]
    if unknown:
        linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        raise UserError(
            f"--lora_target_modules: the model has no module {name_some(unknown, quoted=False)}; its linear layers are "
            f"{name_some(sorted(linear), 12, quoted=False)}"
        )
