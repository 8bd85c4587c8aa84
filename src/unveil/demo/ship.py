"""Put a trained base into the package: `python -m unveil.demo.ship --model runs/base --tokenizer base_data/tokenizer`.

Weights are stored in bfloat16, half the size; the demo computes in float32.
"""

import argparse
import shutil
import sys
from pathlib import Path

from unveil.errors import UserError
from unveil.files import replace_folder
from unveil.models import check_tokenizer, load_denoiser_model, load_tokenizer

ASSET = Path(__file__).parent / "assets" / "base"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def ship(model: Path, tokenizer: Path, folder: Path = ASSET) -> int:
    """Write weights, config and tokenizer files to `folder`; returns their size in bytes."""
    weights = load_denoiser_model(model, "bfloat16")
    check_tokenizer(load_tokenizer(tokenizer), weights)
    with replace_folder(folder) as made:
        weights.save_pretrained(made)
        for name in TOKENIZER_FILES:
            shutil.copyfile(tokenizer / name, made / name)
    return sum(file.stat().st_size for file in folder.iterdir())


def main() -> int:
    """Parse the flags; a user's error is one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m unveil.demo.ship", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of its tokenizer, as first saved")
    args = parser.parse_args()
    try:
        size = ship(args.model, args.tokenizer)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{ASSET}: {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
