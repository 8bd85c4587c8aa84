"""`unveil plan` for a model of LLaDA-8B's published sizes on the lengths of kto-mix-14k's test split.

    python -m benchmarks.planning [flags of unveil plan]

Writes into runs/planning a folder with LLaDA-8B's configuration (d 4096, 32 layers, feed-forward
12288, vocabulary 126464, head not tied; no weights) and a file of 1,498 thumbs, and runs `unveil plan` on them. LLaDA's
own tokenizer is not at hand: the shipped one of 4,096 tokens stands for it, which cuts the same texts into about 1.45
times as many tokens as a vocabulary of 126,464 would.
"""

import json
import shutil
import sys
from pathlib import Path

from benchmarks.kto_mix import read_pairs, write_rows
from unveil.cli.main import main as unveil
from unveil.demo.base import shipped_folder
from unveil.models import LLaDAConfig

DATA = Path("../shared/data/kto_mix_test")


def write_model(folder: Path) -> str:
    """LLaDA-8B's configuration beside the shipped tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped = shipped_folder()
    ids = json.loads((shipped / "config.json").read_text())
    special = {name: ids[name] for name in ("mask_token_id", "eos_token_id", "pad_token_id")}
    LLaDAConfig(dtype="bfloat16", **special).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(shipped / name, folder)
    return str(folder)


def write_thumbs(folder: Path, path: Path) -> str:
    """Both answers of every prompt, as thumbs."""
    labels = {"chosen": True, "rejected": False}
    rows = [
        {"prompt": pair["prompt"], "completion": pair[name], "label": label}
        for pair in read_pairs(folder)
        for name, label in labels.items()
    ]
    return write_rows(path, rows)  # type: ignore[arg-type]


def main(argv: list[str]) -> int:
    """Write both, plan."""
    folder = Path("runs/planning")
    model = write_model(folder / "llada-8b")
    data = write_thumbs(DATA, folder / "kto_mix_test.jsonl")
    return unveil(["plan", "--model_name_or_path", model, "--dataset_name", data, "--on_bad_rows", "drop", *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
