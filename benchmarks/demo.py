"""The demo's table over training seeds, with its shuffled-thumbs control.

    python -m benchmarks.demo --seeds 0 1 2 --shuffled --null --split report

Every line is one alignment of the shipped base. What does not depend on the alignment (the base's answers and
likelihoods) is computed once, and kept on disk with `--cache FOLDER`. Pooled rows average a prompt over the seeds
first, so their intervals are over prompts. The last line printed is one JSON object.

`--set key=value ...` changes settings of the recipe, for choosing them: use `--split tuning` then.
"""

import argparse
import hashlib
import json
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from unveil.demo.base import Base, load_base
from unveil.demo.experiment import Yardstick, experiment, measure_base
from unveil.demo.progress import Stages
from unveil.demo.recipe import Recipe, Split
from unveil.demo.results import Evidence, Results
from unveil.errors import UserError
from unveil.files import write_bytes
from unveil.judging import adjusted_win_rate, cluster_means

HEAD = (
    "| thumbs | seed | win rate | 95 % interval | win/tie/loss | NELBO product % | NELBO film % | length ratio "
    "| r up | r down | AUC | seconds |"
)
# Settings on which the base's own answers and likelihoods depend.
YARDSTICK_SETTINGS = (
    "canvas_length", "temperature", "top_p", "sampling_steps", "num_prompts", "num_texts", "eval_draws",
    "sampling_seed",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One alignment and what it gave."""

    thumbs: str
    seed: int
    results: Results
    evidence: Evidence

    def markdown(self) -> str:
        """The line of the table."""
        r = self.results
        return (
            f"| {self.thumbs} | {self.seed} | {r.adjusted_win_rate:.3f} | {r.interval[0]:.3f} to {r.interval[1]:.3f} "
            f"| {r.wins}/{r.ties}/{r.losses} | {_percent(r, 'product')} | {_percent(r, 'film')} "
            f"| {r.length_ratio:.3f} | {r.reward_up:+.2f} | {r.reward_down:+.2f} | {r.auc:.3f} | {r.seconds:.0f} |"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"thumbs": self.thumbs, "seed": self.seed, **self.results.as_dict()}


def _percent(results: Results, part: str) -> str:
    found = results.nelbo[part]
    return f"{100 * found.change:+.2f} ± {196 * found.standard_error:.2f}"


def pooled(lines: Sequence[Line]) -> dict[str, Any]:
    """Several seeds together: the interval is over prompts, each averaged over the seeds first."""
    outcomes = np.concatenate([line.evidence.against_base.outcomes for line in lines])
    prompts = [prompt for line in lines for prompt in line.evidence.prompts]
    found = adjusted_win_rate(outcomes, prompts)
    rates = [line.results.adjusted_win_rate for line in lines]
    means = {
        name: float(np.mean([getattr(line.results, name) for line in lines]))
        for name in ("nelbo_change", "length_ratio", "reward_up", "reward_down", "auc", "seconds")
    }
    film = float(np.mean([line.results.nelbo["film"].change for line in lines]))
    return {
        "thumbs": lines[0].thumbs,
        "seeds": [line.seed for line in lines],
        "adjusted_win_rate": found.rate,
        "interval": [found.low, found.high],
        "lowest": min(rates),
        "highest": max(rates),
        "nelbo_change_film": film,
        **means,
    }


def pooled_markdown(found: dict[str, Any]) -> str:
    """The pooled line of the table."""
    low, high = found["interval"]
    return (
        f"| **{found['thumbs']}** | {len(found['seeds'])} seeds | **{found['adjusted_win_rate']:.3f}** "
        f"| {low:.3f} to {high:.3f} | | {100 * found['nelbo_change']:+.2f} | {100 * found['nelbo_change_film']:+.2f} "
        f"| {found['length_ratio']:.3f} | {found['reward_up']:+.2f} | {found['reward_down']:+.2f} "
        f"| {found['auc']:.3f} | {found['seconds']:.0f} |"
    )


def label_effect(true: Sequence[Line], shuffled: Sequence[Line]) -> dict[str, float]:
    """True minus shuffled win rate, paired by prompt, with a 95 % normal interval over prompts."""
    per_prompt = [
        cluster_means(
            np.concatenate([line.evidence.against_base.outcomes for line in lines]),
            [prompt for line in lines for prompt in line.evidence.prompts],
        )
        for lines in (true, shuffled)
    ]
    gap = per_prompt[0] - per_prompt[1]
    half = 1.96 * float(gap.std(ddof=1)) / len(gap) ** 0.5 if len(gap) > 1 else 0.0
    return {"difference": float(gap.mean()), "low": float(gap.mean()) - half, "high": float(gap.mean()) + half}


def yardstick_of(base: Base, recipe: Recipe, split: Split, cache: Path | None, stages: Stages) -> Yardstick:
    """What the base gives, from the cache where it was computed before with the same weights and settings."""
    known = {name: getattr(recipe, name) for name in YARDSTICK_SETTINGS}
    text = json.dumps({"split": split, **known, **base.fingerprints}, sort_keys=True)
    path = cache / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.pickle" if cache else None
    if path is not None and path.is_file():
        return pickle.loads(path.read_bytes())
    found = measure_base(base, recipe, split, stages)
    if path is not None:
        write_bytes(path, pickle.dumps(found))
    return found


def changed(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with `key=value` settings in place of its own."""
    types = {field.name: type(getattr(recipe, field.name)) for field in fields(recipe)}
    values: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in types:
            raise UserError(f"--set {setting}: no such setting; choose one of {', '.join(types)}")
        try:
            values[name] = types[name](value)
        except ValueError as error:
            raise UserError(f"--set {setting}: {value!r} is not of type {types[name].__name__}") from error
    return replace(recipe, **values)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds")
    parser.add_argument(
        "--split", choices=["tuning", "report"], default="report", help="prompts and texts to measure on"
    )
    parser.add_argument("--shuffled", action="store_true", help="also run the control with permuted thumbs")
    parser.add_argument("--only_shuffled", action="store_true", help="run the control alone")
    parser.add_argument("--null", action="store_true", help="also print base against base")
    parser.add_argument("--num_prompts", type=int, help="held-out prompts (default: the recipe's)")
    parser.add_argument("--base", help="folder of another base model than the shipped one")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other settings of the recipe")
    parser.add_argument("--cache", type=Path, help="folder that keeps the base's answers between calls")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch threads (default: all cores)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run all lines, print the table as it grows, and return what the last line shows."""
    settings = [*args.set, *([f"num_prompts={args.num_prompts}"] if args.num_prompts else [])]
    recipe = changed(Recipe(), settings)
    base = load_base(args.base)
    controls = [True] if args.only_shuffled else [False, True] if args.shuffled else [False]
    lines: list[Line] = []
    with Stages(not args.quiet) as stages, tempfile.TemporaryDirectory() as folder:
        yardstick = yardstick_of(base, recipe, args.split, args.cache, stages)
        print(HEAD, "|" + "---|" * (HEAD.count("|") - 1), sep="\n", flush=True)
        for shuffled in controls:
            for seed in args.seeds:
                own = replace(recipe, seed=seed)
                found = experiment(base, own, args.split, Path(folder), stages, shuffled, yardstick)
                lines.append(Line("shuffled" if shuffled else "true", seed, found.results, found.evidence))
                print(lines[-1].markdown(), flush=True)
    groups = {name: [line for line in lines if line.thumbs == name] for name in ("true", "shuffled")}
    pools = {name: pooled(group) for name, group in groups.items() if group}
    for found in pools.values():
        print(pooled_markdown(found))
    report: dict[str, Any] = {
        "base": base.name,
        "split": args.split,
        "changed": settings,
        "lines": [line.as_dict() for line in lines],
        "pooled": pools,
    }
    if groups["true"] and groups["shuffled"]:
        report["label_effect"] = effect = label_effect(groups["true"], groups["shuffled"])
        print(f"\ntrue minus shuffled: {effect['difference']:+.3f} ({effect['low']:+.3f} to {effect['high']:+.3f})")
    null = lines[0].evidence.against_itself.win_rate
    report["null"] = {"adjusted_win_rate": null.rate, "interval": [null.low, null.high]}
    if args.null:
        print(f"\nbase against base: {null.describe()}")
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    args = arguments(argv)
    started = time.perf_counter()
    torch.set_num_threads(args.threads)
    logging.disable_progress_bar()
    try:
        report = run(args)
    except UserError as error:
        print(f"benchmarks.demo: error: {error}", file=sys.stderr)
        return 2
    print(json.dumps({**report, "seconds": time.perf_counter() - started}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
