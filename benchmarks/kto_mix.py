"""Held-out pair accuracy of the implicit reward on real preference data: objectives side by side on the same pairs.

    python -m benchmarks.kto_mix --data ../shared/data/kto_mix_test --output_dir runs/kto_mix --objective kto vrpo dpo

600 pairs to train on, the other pairs are held out; objectives for thumbs (`kto`) take them apart into 1,200. The
shipped base, which has read short reviews only, is first fine-tuned without labels on the texts of the training pairs
(`unveil sft`, once per seed), then every objective starts from it (`unveil train`); all commands are printed. A step
sees 32 answers whatever the objective: 32 thumbs or 16 pairs. `vrpo` is as published: 8 independent draws, beta 0.2,
0.05 SFT, 60 steps; `kto` takes 2 draws of the default design, beta 0.5 and 120 steps, half of vrpo's forward passes.
`--num_draws`, `--beta` (not of vrpo) and `--steps` give all objectives the same.

Prompts keep their last 24 tokens and answers their first 56: the base is small, and its margins of longer answers are
mostly noise. Lengths, learning rate, steps, draws and beta were chosen as `--tune` does it: trained on 450 of the 600
training pairs and measured on the other 150, not on held-out pairs. Pairs whose answers are the same there (row 213 is
one text twice) are left out. The accuracy is the share of held-out pairs whose chosen answer has the larger margin;
the interval is Wilson's, 95 %. `--bag_of_words` adds what a logistic regression on the words of the same thumbs
reaches (TF-IDF, C = 1, the answers as far as the models read them): how much these few pairs hold. The last line
printed is one JSON object.
"""

import argparse
import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from unveil.cli.main import main as unveil
from unveil.errors import UserError
from unveil.files import write_text
from unveil.models import load_tokenizer

TRAIN_PAIRS = 600
ANSWERS_PER_STEP = 32
TUNING_PAIRS = 150
MAX_LENGTH, MAX_PROMPT_LENGTH = 80, 24
BAG_OF_WORDS = "bag of words"


class Setting(NamedTuple):
    """What an objective is trained with; beta None: the recipe's own."""

    steps: int
    num_draws: int
    draw_design: str
    beta: float | None


OBJECTIVES = {
    "kto": Setting(120, 2, "quadratic_tiling", 0.5),
    "vrpo": Setting(60, 8, "iid", None),
    "dpo": Setting(60, 4, "quadratic_tiling", 0.1),
}


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


def told_apart(pairs: list[dict[str, str]], base: str) -> list[dict[str, str]]:
    """Pairs whose answers differ in the tokens that are read."""
    tokenizer, kept = load_tokenizer(base), MAX_LENGTH - MAX_PROMPT_LENGTH
    chosen, rejected = (tokenizer([pair[half] for pair in pairs])["input_ids"] for half in ("chosen", "rejected"))
    found = [pair for pair, a, b in zip(pairs, chosen, rejected) if a[:kept] != b[:kept]]  # type: ignore[index]
    if len(found) < len(pairs):
        print(f"{len(pairs) - len(found)} of {len(pairs)} pairs have the same answer twice; left out", flush=True)
    return found


def prepare(args: argparse.Namespace, output: Path, seed: int) -> tuple[str, str, str]:
    """Files of training pairs, held-out pairs and unlabelled training texts."""
    pairs = read_pairs(Path(args.data))
    order = np.random.default_rng(seed).permutation(len(pairs))
    parts = order[: args.train_pairs], order[args.train_pairs :]
    if args.tune:
        parts = parts[0][:-TUNING_PAIRS], parts[0][-TUNING_PAIRS:]
    train, held_out = (told_apart([pairs[i] for i in part], args.base) for part in parts)
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


def setting_of(args: argparse.Namespace, objective: str) -> Setting:
    """The objective's own setting, or as given."""
    own = OBJECTIVES[objective]
    return Setting(
        args.steps or own.steps,
        args.num_draws or own.num_draws,
        own.draw_design,
        own.beta if args.beta is None or own.beta is None else args.beta,
    )


def one_seed(args: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Split, fine-tune once, align by every objective, measure."""
    output = Path(args.output_dir) / f"seed-{seed}"
    train, held_out, texts = prepare(args, output, seed)
    shared = [
        "--max_length", str(MAX_LENGTH), "--max_prompt_length", str(MAX_PROMPT_LENGTH), "--end_of_answer", "none",
        "--on_bad_rows", "drop", "--seed", str(seed), "--save_strategy", "no", "--disable_tqdm", "True", "--overwrite",
    ]  # fmt: skip
    run(
        ["sft", "--model_name_or_path", args.base, "--dataset_name", texts, "--output_dir", str(output / "base"),
         "--max_steps", str(args.sft_steps), "--per_device_train_batch_size", "32", "--learning_rate", "1e-3",
         "--num_draws", "1", "--logging_steps", "50", *shared]
    )  # fmt: skip
    rows = [one_objective(args, seed, objective, output, train, held_out, shared) for objective in args.objective]
    return [*rows, bag_of_words(train, held_out, args.base, seed)] if args.bag_of_words else rows


def bag_of_words(train: str, held_out: str, base: str, seed: int) -> dict[str, Any]:
    """A supervised classifier of thumbs, asked which answer of a held-out pair is the better one."""
    tokenizer, kept = load_tokenizer(base), MAX_LENGTH - MAX_PROMPT_LENGTH

    def answers(path: str) -> list[str]:
        with open(path, encoding="utf-8") as lines:
            texts = [pair[half] for pair in map(json.loads, lines) for half in ("chosen", "rejected")]
        return [str(tokenizer.decode(ids[:kept])) for ids in tokenizer(texts)["input_ids"]]  # type: ignore[index]

    thumbs = answers(train)
    words = TfidfVectorizer(sublinear_tf=True, min_df=2)
    model = LogisticRegression(max_iter=1000).fit(words.fit_transform(thumbs), [1, 0] * (len(thumbs) // 2))
    scores = model.decision_function(words.transform(answers(held_out)))
    right = np.sign(scores[::2] - scores[1::2]) / 2 + 0.5
    return {"objective": BAG_OF_WORDS, "seed": seed, "pairs": len(right), "accuracy": float(right.mean())}


def one_objective(
    args: argparse.Namespace, seed: int, objective: str, output: Path, train: str, held_out: str, shared: list[str]
) -> dict[str, Any]:
    """Align by one objective and measure."""
    aligned = output / objective
    batch = ANSWERS_PER_STEP if objective == "kto" else ANSWERS_PER_STEP // 2
    setting = setting_of(args, objective)
    beta = [] if setting.beta is None else ["--beta", f"{setting.beta:g}"]
    run(
        ["train", "--objective", objective, "--model_name_or_path", str(output / "base"), "--dataset_name", train,
         "--eval_dataset_name", held_out, "--output_dir", str(aligned), "--max_steps", str(setting.steps),
         "--per_device_train_batch_size", str(batch), "--per_device_eval_batch_size", str(2 * batch),
         "--learning_rate", f"{args.learning_rate:g}", *beta,
         "--num_draws", str(setting.num_draws), "--draw_design", setting.draw_design,
         "--eval_num_draws", str(args.eval_num_draws), "--logging_steps", "20", "--eval_strategy", "no", *shared]
    )  # fmt: skip
    results = json.loads((aligned / "run.json").read_text())["results"]
    return {
        "objective": objective,
        "seed": seed,
        "pairs": sum(1 for _ in open(held_out, encoding="utf-8")),
        "accuracy": results["eval_rewards/accuracies"],
        "reward_up": results["eval_rewards/chosen"],
        "reward_down": results["eval_rewards/rejected"],
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kto_mix", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="../shared/data/kto_mix_test", help="folder with the two files")
    parser.add_argument("--output_dir", default="runs/kto_mix")
    parser.add_argument("--base", default="src/unveil/demo/assets/base", help="model to start from")
    parser.add_argument("--objective", nargs="+", choices=OBJECTIVES, default=["kto"], help="one or several")
    parser.add_argument("--learning_rate", type=float, default=1e-4, help="of every objective (default: 1e-4)")
    parser.add_argument("--num_draws", type=int, help="draws per answer (default: each objective's)")
    parser.add_argument("--beta", type=float, help="of kto and dpo (default: each objective's)")
    parser.add_argument("--eval_num_draws", type=int, default=32, help="draws per held-out answer")
    parser.add_argument(
        "--train_pairs", type=int, default=TRAIN_PAIRS, help="pairs to train on; the others are held out"
    )
    parser.add_argument("--tune", action="store_true", help=f"hold out {TUNING_PAIRS} of the training pairs instead")
    parser.add_argument("--sft_steps", type=int, default=400)
    parser.add_argument("--steps", type=int, help="optimizer steps (default: each objective's)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--bag_of_words", action="store_true", help="also a classifier of words on the same pairs")
    parser.add_argument("--quick", action="store_true", help="two steps: checks that it works, no figures")
    args = parser.parse_args(argv)
    if args.quick:
        args.steps, args.sft_steps, args.num_draws, args.eval_num_draws = 2, 2, 1, 1
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, measure every seed, print the table."""
    args = arguments(argv)
    try:
        rows = [row for seed in args.seeds for row in one_seed(args, seed)]
    except UserError as error:
        print(f"benchmarks.kto_mix: error: {error}", file=sys.stderr)
        return 2
    names = [*args.objective, *([BAG_OF_WORDS] if args.bag_of_words else [])]
    rows.sort(key=lambda row: names.index(row["objective"]))
    print("\n| objective | seed | held-out pairs | pair accuracy | 95 % interval | reward up | reward down |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        low, high = wilson(row["accuracy"], int(row["pairs"]))
        rewards = [f"{row[name]:.2f}" if name in row else "" for name in ("reward_up", "reward_down")]
        print(
            f"| {row['objective']} | {row['seed']} | {row['pairs']} | {row['accuracy']:.3f} | {low:.3f} to {high:.3f} "
            f"| {' | '.join(rewards)} |"
        )
    means = {name: sum(row["accuracy"] for row in rows if row["objective"] == name) / len(args.seeds) for name in names}
    print(json.dumps({"accuracy": means, "runs": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
