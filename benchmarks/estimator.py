"""Which draws give the sharpest margins and gradients at equal forward passes: all designs, all combiners.

    python -m benchmarks.estimator --output_dir estimator

The shipped base against a copy aligned here with the demo's recipe (40 steps; `--aligned FOLDER` takes a copy that is
there already), on held-out thumbs of the demo's tuning split, tokenised as in that recipe. Per answer and design, plans
are repeated; margins r = B_aligned - B_base share draws; gradients are those of the aligned model's B by all weights.
Mean squared errors are over those of `iid` with as many forward passes; intervals are 95 %, bootstrap over answers.

    python -m benchmarks.estimator --model FOLDER --reference FOLDER --device cuda --dtype bfloat16

measures a larger model: its own tokenizer, answers from `--dataset_name` (or the same texts), one end-of-text token per
answer. Without `--reference`, a copy with relative noise. `--gradient_parameters` bounds memory.

With `--output_dir` every design is kept as it is measured, and the same command goes on where it was stopped. The last
line printed is one JSON object; `--quick` only checks that it runs.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from benchmarks.estimator_ledger import Ledger
from benchmarks.estimator_models import Pair, demo_pair, given_pair
from benchmarks.measuring import machine, progress, table
from unveil.cli.variance_page import QUANTITIES, figure, report_of, sentences
from unveil.diagnostics.estimator_comparison import Comparison, Ratio, compare
from unveil.diagnostics.estimator_variance import Draws, Measured, all_designs, measure, served, ways_to_draw
from unveil.diagnostics.gradient_moments import GradientRequest
from unveil.diagnostics.recommendation import DEFAULT_DESIGN
from unveil.draws import DESIGNS
from unveil.errors import UserError
from unveil.files import write_bytes, write_json
from unveil.likelihood import COMBINERS

TARGETS = {"margin": 0.35, "gradient": 0.45}
QUICK = {"answers": 3, "replicates": 4, "gradient_replicates": 2, "steps": 2, "num_draws": [4], "exponents": [2.0]}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    about = (__doc__ or "").split("\n")[0]
    made = argparse.ArgumentParser(prog="python -m benchmarks.estimator", description=about)
    made.add_argument(
        "--quick", action="store_true", help="few answers and replicates: checks that it runs, no figures"
    )
    made.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    made.add_argument(
        "--num_draws", type=int, nargs="+", default=[8, 4], help="forward passes; the first is the headline"
    )
    made.add_argument("--designs", nargs="+", choices=[*DESIGNS], metavar="DESIGN", help="default: all that serve")
    made.add_argument("--combiners", nargs="+", choices=[*COMBINERS], default=[*COMBINERS], metavar="COMBINER")
    made.add_argument(
        "--exponents", type=float, nargs="+", default=[1.5, 2.0, 2.5], help="exponents of quadratic_tiling"
    )
    made.add_argument("--answers", type=int, default=24, help="answers measured on")
    made.add_argument("--replicates", type=int, default=16, help="plans per answer and design, for B and margins")
    made.add_argument("--gradient_replicates", type=int, default=6, help="plans per answer and design, for gradients")
    made.add_argument("--gradient_parameters", nargs="+", default=[], help="parts of names; default: all parameters")
    made.add_argument("--steps", type=int, default=40, help="optimizer steps of the alignment")
    made.add_argument("--aligned", type=Path, help="folder of an aligned copy of the shipped base")
    made.add_argument("--model", help="another policy than the demo's")
    made.add_argument("--reference", help="with --model: its reference")
    made.add_argument("--perturbation", type=float, default=0.02, help="with --model alone: relative noise of the copy")
    made.add_argument("--dataset_name", help="with --model: answers")
    made.add_argument("--max_length", type=int, help="with --model: longest prompt + answer")
    made.add_argument("--device", help="with --model: cpu, cuda, ...")
    made.add_argument("--dtype", help="with --model: float32, bfloat16, ...")
    made.add_argument("--tokens_per_batch", type=int, default=4096, help="tokens of one forward pass")
    made.add_argument("--seed", type=int, default=0, help="seed of draws and bootstrap")
    made.add_argument("--output_dir", type=Path, help="folder for measurements, report and figure")
    args = made.parse_args(argv)
    if args.quick:
        for name, value in QUICK.items():
            setattr(args, name, value)
    if min(args.replicates, args.gradient_replicates, args.answers) < 2:
        raise UserError("--replicates, --gradient_replicates, --answers: at least 2 each")
    return args


def ways(args: argparse.Namespace) -> list[Draws]:
    """Every way to draw, for every number of forward passes."""
    found = []
    for count in args.num_draws:
        able = all_designs(count)
        found += ways_to_draw([DEFAULT_DESIGN, *(d for d in args.designs or able if d in able)], count)
        found += [Draws(DEFAULT_DESIGN, count, strata_exponent=exponent) for exponent in args.exponents]
    return list(dict.fromkeys(found))


def measure_all(pair: Pair, args: argparse.Namespace) -> list[Measured]:
    """Whatever the ledger does not have yet."""
    settings = {
        **pair.about,
        "answers": [r.example_id for r in pair.responses],
        **{
            n: getattr(args, n)
            for n in ("replicates", "gradient_replicates", "gradient_parameters", "combiners", "seed")
        },
    }
    ledger, wanted = Ledger(args.output_dir, settings), ways(args)
    for number, draws in enumerate(wanted, start=1):
        if draws in ledger.known:
            continue
        started = time.process_time()
        gradient = GradientRequest(
            args.gradient_replicates, tuple(args.gradient_parameters), draws == Draws(DEFAULT_DESIGN, draws.num_draws)
        )
        combiners = served(args.combiners, draws)
        ledger.add(
            measure(
                pair.policy, pair.reference, pair.responses, draws, combiners, args.replicates, args.seed, gradient,
                args.tokens_per_batch,
            )
        )  # fmt: skip
        progress(
            f"{number}/{len(wanted)} {draws.name}, {draws.num_draws} draws: {time.process_time() - started:.0f} s CPU"
        )
    return [ledger.known[draws] for draws in wanted]


def print_table(report: dict[str, Any]) -> None:
    """One row per estimator, ratios to `iid` at equal forward passes."""
    print(f"\n{report['num_draws']} forward passes; mean squared error over that of iid (95 % interval)\n")
    rows = [
        (
            row["name"],
            row["combiner"],
            "yes" if row["unbiased"] else "no",
            *(Ratio(**row[f"{quantity}_mse_over_iid"]).text() for quantity in QUANTITIES),
            f"{max(row['margin_mse'], 0.0) ** 0.5:.3g}",
            f"{row['psi']['psi']:.3g}",
        )
        for row in report["estimators"]
    ]
    table(("design", "combiner", "exact", *QUANTITIES.values(), "sd of r (nats)", "Psi"), rows)
    for line in sentences(report)[1:]:
        print(line)


def headline(comparison: Comparison, counts: Sequence[int]) -> dict[str, Any]:
    """The default design over `iid`: at the first number of forward passes, and with half of them."""
    found: dict[str, Any] = {}
    for count in counts:
        default, iid = comparison.find(DEFAULT_DESIGN, count), comparison.iid(counts[0])
        suffix = "" if count == counts[0] else f"_{count}_draws_over_{counts[0]}"
        for name, target in TARGETS.items():
            one, other = getattr(default, f"{name}_N"), getattr(iid, f"{name}_N")
            ratio = comparison.ratio(one, other)
            found[f"{name}_mse_default{suffix}_over_iid"] = ratio.value
            found[f"{name}_mse_default{suffix}_over_iid_interval"] = [ratio.low, ratio.high]
            if not suffix:
                found[f"{name}_target"] = target
                found[f"{name}_target_met"] = ratio.value <= target
    return found


def biased_rival(comparison: Comparison, count: int) -> dict[str, Any]:
    """The estimator with the smallest product of errors among the biased ones, over the default."""
    default, iid = comparison.find(DEFAULT_DESIGN, count), comparison.iid(count)
    rivals = [e for e in comparison.estimators if not e.unbiased and e.draws.num_draws == count]
    if default is None or not rivals:
        return {}
    best = min(rivals, key=lambda e: comparison.product(e, iid).value)
    over = comparison.product(best, default, compared=len(rivals))
    share = 1 - best.psi.v / float(best.margin_N.mean())
    print(
        f"Of the biased ones {best.name} is best: {over.text()} times the default's margin error x gradient error; "
        f"squared bias is {share:.0%} of its margin error."
    )
    return {"name": best.name, "product_over_default": over._asdict(), "squared_bias_share_of_margin": share}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, write; returns what the last line shows."""
    pair = given_pair(args) if args.model else demo_pair(args.answers, args.steps, args.aligned, args.output_dir)
    progress(f"{len(pair.responses)} answers, {sum(r.length for r in pair.responses)} scored tokens")
    measured = measure_all(pair, args)
    comparison = compare(measured, args.seed)
    reports = []
    for count in args.num_draws:
        report = {
            **pair.about,
            "answers": len(pair.responses),
            "replicates": args.replicates,
            "gradient_replicates": args.gradient_replicates,
            "num_draws": count,
            **report_of(comparison, measured, count),
        }
        reports.append(report)
        print_table(report)
        report["biased_rival"] = biased_rival(comparison, count)
        if args.output_dir:
            write_json(args.output_dir / f"estimator_{count}.json", report)
            write_bytes(args.output_dir / f"estimator_{count}.png", figure(report))
    return {
        **headline(comparison, args.num_draws),
        **pair.about,
        "num_draws": args.num_draws[0],
        "answers": len(pair.responses),
        "replicates": args.replicates,
        "gradient_replicates": args.gradient_replicates,
        "recommendation": {r["num_draws"]: r["recommendation"]["text"] for r in reports},
        "biased_rival": {r["num_draws"]: r["biased_rival"] for r in reports},
        "quick": args.quick,
        "device": str(pair.policy.device),
        "machine": machine(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    started = time.process_time()
    logging.disable_progress_bar()
    try:
        args = arguments(argv)
        torch.set_num_threads(args.threads)
        report = run(args)
    except UserError as error:
        print(f"benchmarks.estimator: error: {error}", file=sys.stderr)
        return 2
    print(json.dumps({**report, "cpu_seconds": time.process_time() - started}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
