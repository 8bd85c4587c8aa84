"""A model, adapters or a tokenizer whose folder lists its files with checksums is loaded only as it was written.

A flipped bit in a weight, or the configuration of another run, looks like any other model. Of a folder that loads,
every byte that is read is looked at once in a process; folders without a list, as others write them, are taken as they
are.
"""

from pathlib import Path
from typing import Any

from unveil.checksums import FILE, has_checksums, require_as_written, state_of

CONFIGS = ("config.json", "adapter_config.json", "base_model.json")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*", "adapter_model.*", "generation_config.json")
TOKENIZER = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "spiece.model",
    "chat_template*",
)  # fmt: skip
_looked_at: dict[tuple[Path, tuple[str, ...]], Any] = {}


def require_files_as_written(folder: str | Path, only: tuple[str, ...]) -> None:
    """Refuse a folder of a model of which a file of these names is missing, cut, changed or foreign.

    Raises:
        UserError: naming the file, and what to do, also if the change was meant.
    """
    folder = Path(folder)
    if not folder.is_dir() or not has_checksums(folder):
        return
    key = (folder.resolve(), only)
    state = state_of(folder)
    if _looked_at.get(key) == state:
        return
    remedy = f"copy it again, or, if you changed it on purpose, remove {folder / FILE}"
    require_as_written(folder, str(folder), remedy, only, foreign=True)
    _looked_at[key] = state
