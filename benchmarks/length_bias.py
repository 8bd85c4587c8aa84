"""Do answers grow when the preferred ones are longer? DPO, LD-DPO, SimPO and KTO on pairs with a length bias.

    python -m benchmarks.length_bias --output_dir runs/length_bias --jobs 2

Pairs of film reviews with human ratings (`benchmarks.review_pairs`), of which so many are left out that in 80 % of the
rest the liked review is the longer one; ratings have next to nothing to do with length otherwise. Reviews that do not
fit the base's canvas of 40 tokens are left out, and the end-of-text fill is not scored (`one_eos`): with it all answers
would be equally long, and LD-DPO would be DPO.

Base and trained models answer the same held-out prompts as in the demo. Length is in tokens, without the end-of-text
token; the win rate is that of the demo's judge (fitted to human ratings of other reviews), wins plus half the ties,
against the base. Intervals are 95 %, over training seeds and prompts. Finished runs are kept in `runs.jsonl` and not
repeated. The last line printed is one JSON object.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from benchmarks.figures import crosses
from benchmarks.intervals import Estimate, crossed
from benchmarks.measuring import progress, table
from benchmarks.pair_training import (
    CANVAS,
    Settings,
    correct,
    held_out_data,
    margins,
    responses,
    shipped_base,
    trained,
)
from benchmarks.review_pairs import ReviewPair, length_biased, review_pairs
from benchmarks.runs import Job, Record, experiment, run_all
from unveil.demo.answers import Answers, sample
from unveil.demo.experiment import judged
from unveil.demo.order import in_hash_order
from unveil.demo.recipe import Recipe
from unveil.demo.reviews import prompts
from unveil.files import write_bytes
from unveil.models import Denoiser

OBJECTIVES = ("dpo", "ld_dpo", "simpo", "kto")
FIGURE = "length_bias.png"


@cache
def biased_pairs(share: float, settings: Settings) -> list[ReviewPair]:
    """Training pairs of reviews that fit the canvas; in `share` of them the chosen answer has more tokens."""
    tokenizer = shipped_base().tokenizer
    pairs = review_pairs("feedback", lambda review: len(tokenizer(review.text)["input_ids"]) < CANVAS)  # type: ignore
    lengths = [response.length for response in responses(pairs, settings)]
    return length_biased(pairs, list(zip(lengths[::2], lengths[1::2], strict=True)), share)


def describe(share: float, settings: Settings) -> dict[str, float]:
    """How long the two answers of a training pair are."""
    pairs = biased_pairs(share, settings)
    lengths = np.array([response.length for response in responses(pairs, settings)]).reshape(-1, 2)
    return {
        "pairs": len(pairs),
        "chosen_longer": float((lengths[:, 0] > lengths[:, 1]).mean()),
        "chosen_tokens": float(lengths[:, 0].mean()),
        "rejected_tokens": float(lengths[:, 1].mean()),
    }


@cache
def yardstick(split: str, count: int, recipe: Recipe) -> tuple[list[str], Answers]:
    """Prompts, and what the base answers, once per process."""
    asked = in_hash_order(prompts(split), str)[:count]
    base = shipped_base()
    return asked, sample(base.denoiser, base, asked, recipe, recipe.base_seed, lambda _: None)


def work(job: Job) -> Record:
    """Train, let answer, judge: outcomes against the base and lengths of both models' answers, prompt by prompt."""
    logging.disable_progress_bar()
    chosen = dict(job["settings"])
    share, count = chosen.pop("longer_wins"), chosen.pop("prompts")
    settings, recipe = Settings(**chosen), replace(Recipe(), seed=job["seed"])
    found = trained(biased_pairs(share, settings), job["objective"], settings, job["seed"])
    asked, of_base = yardstick(job["split"], count, Recipe())
    own = sample(Denoiser(found.model), shipped_base(), asked, recipe, recipe.aligned_seed, lambda _: None)
    against = judged(asked, own, of_base)
    # All pairs, without a length bias.
    answers, reference = held_out_data(job["split"], count, settings)
    right = correct(margins(found.model, answers, reference, settings.eval_draws))
    progress(
        f"{job['objective']}, seed {job['seed']}: {own.mean_length:.1f} tokens (base {of_base.mean_length:.1f}), "
        f"{against.win_rate.describe()}"
    )
    return {
        "outcomes": against.outcomes.tolist(),
        "lengths": own.lengths,
        "base_lengths": of_base.lengths,
        "distinct_bigrams": own.distinct_bigrams,
        "accuracy": float(right.mean()),
        "train_margin": found.margin,
        "cpu_seconds": found.cpu_seconds,
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    own = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.length_bias", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--output_dir", type=Path, default=Path("runs/length_bias"))
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2")
    parser.add_argument("--split", choices=["tuning", "report"], default="tuning", help="prompts to measure on")
    parser.add_argument("--num_prompts", type=int, help="prompts that base and trained models answer (default: 300)")
    parser.add_argument("--longer_wins", type=float, default=0.8, help="share of pairs whose longer answer is chosen")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes of one thread each")
    parser.add_argument("--steps", type=int, default=own.steps)
    parser.add_argument("--learning_rate", type=float, default=own.learning_rate)
    parser.add_argument("--beta", type=float, default=own.beta, help="of dpo, ld_dpo and kto; simpo keeps its own 2")
    parser.add_argument("--quick", action="store_true", help="two steps of two runs: checks that it works, no figures")
    args = parser.parse_args(argv)
    args.objectives = args.objectives or (["dpo", "ld_dpo"] if args.quick else list(OBJECTIVES))
    args.seeds = args.seeds or ([0] if args.quick else [0, 1, 2])
    args.num_prompts = args.num_prompts or (8 if args.quick else 300)
    if not 0 < args.longer_wins <= 1:
        parser.error("--longer_wins: a share above 0 and at most 1")
    return args


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings of every run."""
    settings = Settings(steps=args.steps, learning_rate=args.learning_rate, beta=args.beta)
    return (
        replace(settings, steps=2, pairs_per_step=4, num_draws=1, eval_draws=1, train_pairs=16)
        if args.quick
        else settings
    )


def records_of(args: argparse.Namespace) -> dict[str, list[Record]]:
    """Run everything that is not on disk; per objective, a record per seed."""
    chosen = {**settings_of(args).as_dict(), "longer_wins": args.longer_wins, "prompts": args.num_prompts}
    jobs = [
        {"objective": objective, "seed": seed, "split": args.split, "settings": chosen}
        for seed in args.seeds
        for objective in args.objectives
    ]
    records = run_all(jobs, work, args.output_dir, args.jobs)
    return {o: [r for job, r in zip(jobs, records) if job["objective"] == o] for o in args.objectives}


def column(records: Sequence[Record], name: str) -> np.ndarray:
    """`[seeds, prompts]` of what every record has per prompt."""
    return np.array([record[name] for record in records], dtype=np.float64)


def in_words(longer: dict[str, Estimate], gaps: dict[str, Estimate]) -> list[str]:
    """Which objectives lengthen answers, and which do so less than DPO, beyond the intervals."""

    def said(estimate: Estimate, above: str, below: str) -> str:
        return above if estimate.above_zero else below if estimate.below_zero else "no difference shown"

    lines = [
        f"{name} against base: {said(e, 'longer', 'shorter')} ({e.text(1, True)} tokens)" for name, e in longer.items()
    ]
    return lines + [
        f"{name} against dpo: {said(e, 'longer', 'shorter')} ({e.text(1, True)} tokens)" for name, e in gaps.items()
    ]


def report(args: argparse.Namespace, found: dict[str, list[Record]]) -> dict[str, Any]:
    """Print the table, draw the figure, return what the last line shows."""
    data = describe(args.longer_wins, settings_of(args))
    base = column(next(iter(found.values())), "base_lengths")
    lengths = {name: crossed(column(records, "lengths")) for name, records in found.items()}
    rates = {name: crossed(column(records, "outcomes")) for name, records in found.items()}
    longer = {name: crossed(column(r, "lengths") - column(r, "base_lengths")) for name, r in found.items()}
    gaps = {
        name: crossed(column(records, "lengths") - column(found["dpo"], "lengths"))
        for name, records in found.items()
        if name != "dpo" and "dpo" in found
    }
    print(
        f"{data['pairs']:.0f} training pairs, the chosen answer longer in {data['chosen_longer']:.0%}: mean "
        f"{data['chosen_tokens']:.1f} against {data['rejected_tokens']:.1f} tokens\n"
    )
    rows = [["base", f"{base.mean():.1f}", "", "", "", "", ""]]
    for name, records in found.items():
        accuracy = float(np.mean([record["accuracy"] for record in records]))
        against_dpo = gaps[name].text(1, signed=True) if name in gaps else ""
        rows.append([
            name, lengths[name].text(1), longer[name].text(1, signed=True), against_dpo, rates[name].text(),
            f"{accuracy:.3f}", f"{np.mean([r['distinct_bigrams'] for r in records]):.3f}",
        ])  # fmt: skip
    head = [
        "model",
        "tokens per answer",
        "minus base",
        "minus dpo",
        "win rate against base",
        "held-out accuracy",
        "distinct bigrams",
    ]
    table(head, rows)
    by_seed = {name: column(records, "lengths").mean(1).tolist() for name, records in found.items()}
    print("tokens per answer, by training seed:\n")
    table(
        ["model", *(f"seed {seed}" for seed in args.seeds)],
        [[name, *(f"{mean:.1f}" for mean in means)] for name, means in by_seed.items()],
    )
    words = in_words(longer, gaps)
    print("\n".join(words))
    points = {name: (lengths[name], rates[name]) for name in found}
    write_bytes(
        args.output_dir / FIGURE,
        crosses(
            points,
            x_axis="tokens per answer",
            y_axis="win rate against the base",
            x_base=float(base.mean()),
            y_even=0.5,
        ),
    )
    print(f"\nfigure: {args.output_dir / FIGURE}")
    return {
        "pairs": data,
        "base_tokens": float(base.mean()),
        "tokens": {name: e._asdict() for name, e in lengths.items()},
        "tokens_by_seed": by_seed,
        "minus_base": {name: e._asdict() for name, e in longer.items()},
        "minus_dpo": {name: e._asdict() for name, e in gaps.items()},
        "win_rate": {name: e._asdict() for name, e in rates.items()},
        "in_words": words,
        "seeds": args.seeds,
        "split": args.split,
        "prompts": args.num_prompts,
        "settings": settings_of(args).as_dict(),
        "quick": args.quick,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    args = arguments(argv)
    return experiment("length_bias", args, lambda: report(args, records_of(args)))


if __name__ == "__main__":
    sys.exit(main())
