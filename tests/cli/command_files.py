"""Rows for the commands' tests, files of them, and damaged copies of a checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

# One row in three is long, so that batches hold unequal answers.
THUMBS = [
    {"prompt": f"say {i}:", "completion": f" word{i % 4}" + " and more" * (i % 3), "label": i % 2 == 0}
    for i in range(12)
]
PAIRS = [
    {
        "prompt": [{"role": "user", "content": f"say {i}"}],
        "chosen": [{"role": "assistant", "content": f"good {i}"}],
        "rejected": [{"role": "assistant", "content": f"bad {i}"}],
    }
    for i in range(4)
]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    """JSON lines; returns the path as a flag takes it."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def edited(base: str, change: Callable[[dict[str, Any]], None], into: Path) -> str:
    """A copy of a checkpoint whose tensors were changed in place."""
    shutil.copytree(base, into)
    file = into / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    return str(into)
