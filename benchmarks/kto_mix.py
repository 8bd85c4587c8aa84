"""Held-out pair accuracy of the implicit reward on real preference data, un-paired for ELBO-KTO.

    python -m benchmarks.kto_mix --data ../shared/data/kto_mix_test --output_dir runs/kto_mix

600 pairs become 1,200 thumbs to train on; the other pairs are held out. The shipped base, which has read short reviews
only, is first fine-tuned without labels on the texts of the training pairs (`unveil sft`), then aligned (`unveil
train`); both commands are printed. Prompts keep their last 32 tokens and answers their first 96, since the base's
context is 128. The accuracy is the share of held-out pairs whose chosen answer has the larger margin; the interval is
Wilson's, 95 %. The last line printed is one JSON object.
"""

import argparse
import json
import math
import shlex
import sys
from pathlib import Path

import numpy as np

from unveil.cli.main import main as unveil
from unveil.errors import UserError
from unveil.files import write_text

TRAIN_PAIRS = 600


def read_pairs(folder: Path) -> list[dict[str, str]]:
    """Rows i of both files share their prompt; messages become plain text."""
    try:
        names = ("chosen.jsonl", "rejected.jsonl")
        halves = [(folder / name).read_text(encoding="utf-8").splitlines() for name in names]
    except OSError as error:
        raise UserError(f"--data {folder}: cannot be read ({error.strerror})") from error
    pairs = []
    for chosen, rejected in zip(*(map(json.loads, half) for half in halves), strict=True):
        turns = [f"{turn['role']}: {turn['content']}" for turn in chosen["prompt"]]
        answers = (" " + chosen["completion"][0]["content"], " " + rejected["completion"][0]["content"])
        pairs.append({"prompt": "\n".join([*turns, "assistant:"]), "chosen": answers[0], "rejected": answers[1]})
    return pairs


def write_rows(path: Path, rows: list[dict[str, str]]) -> str:
    """JSON lines; returns the name."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def prepare(folder: Path, output: Path, seed: int) -> tuple[str, str, str]:
    """Files of training pairs, held-out pairs and unlabelled training texts."""
    pairs = read_pairs(folder)
    order = np.random.default_rng(seed).permutation(len(pairs))
    train, held_out = ([pairs[i] for i in part] for part in (order[:TRAIN_PAIRS], order[TRAIN_PAIRS:]))
    texts = [{"prompt": p["prompt"], "completion": p[half]} for p in train for half in ("chosen", "rejected")]
    return (
        write_rows(output / "train.jsonl", train),
        write_rows(output / "heldout.jsonl", held_out),
        write_rows(output / "texts.jsonl", texts),
    )


def run(command: list[str]) -> None:
    """Print and run a command of the package in this process."""
    print("\n$ unveil " + shlex.join(command), flush=True)
    code = unveil(command)
    if code:
        sys.exit(code)


def wilson(rate: float, count: int) -> tuple[float, float]:
    """95 % interval of a proportion."""
    z = 1.96
    centre = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    return centre - half, centre + half


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, float]:
    """Split, fine-tune, align, measure."""
    output = Path(args.output_dir) / f"seed-{seed}"
    train, held_out, texts = prepare(Path(args.data), output, seed)
    shared = [
        "--max_length", "128", "--max_prompt_length", "32", "--end_of_answer", "none", "--seed", str(seed),
        "--save_strategy", "no", "--disable_tqdm", "True", "--overwrite",
    ]  # fmt: skip
    run(
        ["sft", "--model_name_or_path", args.base, "--dataset_name", texts, "--output_dir", str(output / "base"),
         "--max_steps", str(args.sft_steps), "--per_device_train_batch_size", "32", "--learning_rate", "1e-3",
         "--num_draws", "2", "--logging_steps", "50", *shared]
    )  # fmt: skip
    run(
        ["train", "--objective", "kto", "--model_name_or_path", str(output / "base"), "--dataset_name", train,
         "--eval_dataset_name", held_out, "--output_dir", str(output / "aligned"), "--max_steps", str(args.steps),
         "--per_device_train_batch_size", "32", "--per_device_eval_batch_size", "64", "--learning_rate", "5e-4",
         "--beta", "0.1", "--num_draws", "2", "--eval_num_draws", "16", "--logging_steps", "20",
         "--eval_strategy", "no", *shared]
    )  # fmt: skip
    results = json.loads((output / "aligned" / "run.json").read_text())["results"]
    return {
        "seed": seed,
        "pairs": sum(1 for _ in open(held_out, encoding="utf-8")),
        "accuracy": results["eval_rewards/accuracies"],
        "reward_up": results["eval_rewards/chosen"],
        "reward_down": results["eval_rewards/rejected"],
    }


def main() -> None:
    """Parse, measure every seed, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kto_mix", description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="../shared/data/kto_mix_test", help="folder with the two files")
    parser.add_argument("--output_dir", default="runs/kto_mix")
    parser.add_argument("--base", default="src/unveil/demo/assets/base", help="model to start from")
    parser.add_argument("--sft_steps", type=int, default=120)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    rows = [one_seed(args, seed) for seed in args.seeds]
    print("\n| seed | held-out pairs | pair accuracy | 95 % interval | reward up | reward down |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        low, high = wilson(row["accuracy"], int(row["pairs"]))
        print(
            f"| {row['seed']} | {row['pairs']} | {row['accuracy']:.3f} | {low:.3f} to {high:.3f} "
            f"| {row['reward_up']:.2f} | {row['reward_down']:.2f} |"
        )
    mean = sum(row["accuracy"] for row in rows) / len(rows)
    print(json.dumps({"accuracy": mean, "runs": rows}))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"benchmarks.kto_mix: error: {error}", file=sys.stderr)
        sys.exit(2)
