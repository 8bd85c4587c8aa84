"""Which objectives stand wrong labels? Held-out accuracy of the true preference against the share of flipped pairs.

    python -m benchmarks.noisy_labels --output_dir runs/noisy_labels --jobs 2

1,234 pairs of film reviews with human ratings (`benchmarks.review_pairs`) are trained on after 0, 10, 20, 30 or 40 % of
them were flipped; 328 pairs of reviews that no training saw tell how often the implicit reward (the margin
r = B_policy - B_base) still prefers the review that people preferred. `cdpo` and `rdpo` are told the true flip rate. At
0 % both are DPO, so those runs are not done twice. `adpo` gets soft labels 0.88 and 0.12 (its authors' temperature 0.5)
and tau = 1 / beta; on pairs it is cDPO with eps 0.12 at every flip rate. `kto` takes the pairs apart.

A seed chooses the flipped pairs (those of a lower rate are among those of a higher one), the order of the data and the
draws. Intervals are 95 %, over seeds and held-out pairs; differences to DPO compare the same pairs under the same
seeds. Finished runs are kept in `runs.jsonl` and not repeated. The last line printed is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from benchmarks.figures import lines_with_bands
from benchmarks.intervals import Estimate, crossed
from benchmarks.measuring import progress, table
from benchmarks.pair_training import Settings, correct, held_out_data, margins, trained
from benchmarks.review_pairs import flipped, review_pairs
from benchmarks.runs import Job, Record, experiment, run_all
from unveil.files import write_bytes

OBJECTIVES = ("dpo", "cdpo", "rdpo", "adpo", "kto")
TOLD_THE_RATE = ("cdpo", "rdpo")
RATES = (0.0, 0.1, 0.2, 0.3, 0.4)
FIGURE = "noisy_labels.png"

Outcomes = dict[tuple[str, float], np.ndarray]
"""By objective and flip rate: 1 where the true preference was found, `[seeds, held-out pairs]`."""
Margins = dict[tuple[str, float], np.ndarray]
"""By objective and flip rate: r = B_policy - B_base of (chosen, rejected), nats, `[seeds, held-out pairs, 2]`."""


def job_of(objective: str, rate: float, seed: int, split: str, held_out: int | None, settings: Settings) -> Job:
    """The run that answers for an objective at a flip rate: DPO's where the rate 0 makes the objective DPO."""
    same = objective in TOLD_THE_RATE and rate == 0
    name = {"objective": "dpo" if same else objective, "flipped": rate, "seed": seed, "split": split}
    return {**name, "settings": {**settings.as_dict(), "held_out": held_out}}


def work(job: Job) -> Record:
    """Train and measure one run: margins `[pairs][chosen, rejected]`, nats."""
    logging.disable_progress_bar()
    chosen = dict(job["settings"])
    count = chosen.pop("held_out")
    settings = Settings(**chosen)
    objective, rate, seed = job["objective"], job["flipped"], job["seed"]
    arguments = [f"eps={rate}"] if objective in TOLD_THE_RATE else []
    pairs = flipped(review_pairs("feedback"), rate, seed)
    found = trained(pairs, objective, settings, seed, arguments)
    answers, reference = held_out_data(job["split"], count, settings)
    own = margins(found.model, answers, reference, settings.eval_draws)
    progress(f"{objective}, {rate:.0%} flipped, seed {seed}: accuracy {correct(own).mean():.3f}")
    return {"margins": own.round(4).tolist(), "train_margin": found.margin, "cpu_seconds": found.cpu_seconds}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    own = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.noisy_labels", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--output_dir", type=Path, default=Path("runs/noisy_labels"))
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, help="default: all")
    parser.add_argument("--rates", type=float, nargs="+", help="shares of flipped pairs (default: 0 to 0.4)")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2")
    parser.add_argument("--split", choices=["tuning", "report"], default="report", help="reviews to measure on")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes of one thread each")
    parser.add_argument("--steps", type=int, default=own.steps)
    parser.add_argument("--learning_rate", type=float, default=own.learning_rate)
    parser.add_argument("--beta", type=float, default=own.beta)
    parser.add_argument("--num_draws", type=int, default=own.num_draws, help="draws per answer in training")
    parser.add_argument(
        "--quick", action="store_true", help="two steps of a few runs: checks that it works, no figures"
    )
    args = parser.parse_args(argv)
    args.objectives = args.objectives or (["dpo", "rdpo"] if args.quick else list(OBJECTIVES))
    args.rates = args.rates or ([0.0, 0.4] if args.quick else list(RATES))
    args.seeds = args.seeds or ([0] if args.quick else [0, 1, 2])
    if not all(0 <= rate < 0.5 for rate in args.rates):
        parser.error("--rates: shares from 0 to below 0.5")
    return args


def settings_of(args: argparse.Namespace) -> tuple[Settings, int | None]:
    """The settings of every run, and how many held-out pairs count (None: all)."""
    chosen = {name: getattr(args, name) for name in ("steps", "learning_rate", "beta", "num_draws")}
    settings = Settings(**chosen)
    if not args.quick:
        return settings, None
    return replace(settings, steps=2, pairs_per_step=4, num_draws=1, eval_draws=1, train_pairs=16), 12


def margins_of(args: argparse.Namespace) -> tuple[Margins, list[Record]]:
    """Run everything that is not on disk."""
    settings, count = settings_of(args)
    cells = [(o, rate) for o in args.objectives for rate in args.rates]
    jobs = {(o, r, s): job_of(o, r, s, args.split, count, settings) for o, r in cells for s in args.seeds}
    different = list({json.dumps(job, sort_keys=True): job for job in jobs.values()}.values())
    different.sort(key=lambda job: job["seed"])  # an interrupted command leaves whole seeds
    records = run_all(different, work, args.output_dir, args.jobs)
    by_job = {json.dumps(job, sort_keys=True): record for job, record in zip(different, records)}

    def of(objective: str, rate: float, seed: int) -> np.ndarray:
        record = by_job[json.dumps(jobs[objective, rate, seed], sort_keys=True)]
        return np.array(record["margins"])

    return {cell: np.stack([of(*cell, seed) for seed in args.seeds]) for cell in cells}, records


def differences(outcomes: Outcomes, base: str = "dpo") -> dict[tuple[str, float], Estimate]:
    """Accuracy minus that of DPO on the same pairs under the same seeds."""
    return {
        (objective, rate): crossed(values - outcomes[base, rate])
        for (objective, rate), values in outcomes.items()
        if objective != base and (base, rate) in outcomes
    }


def in_words(gaps: Mapping[tuple[str, float], Estimate]) -> list[str]:
    """Where an objective differs from DPO beyond the interval, and where it does not."""
    lines = []
    for objective in dict.fromkeys(name for name, _ in gaps):
        own = {
            rate: gap for (name, rate), gap in gaps.items() if name == objective and (rate or name not in TOLD_THE_RATE)
        }
        above = [f"{rate:.0%}" for rate, gap in own.items() if gap.above_zero]
        below = [f"{rate:.0%}" for rate, gap in own.items() if gap.below_zero]
        unclear = [f"{rate:.0%}" for rate, gap in own.items() if not (gap.above_zero or gap.below_zero)]
        said = [(above, "better than dpo at"), (below, "worse than dpo at"), (unclear, "no difference shown at")]
        lines.append(f"{objective}: " + "; ".join(f"{words} {', '.join(rates)}" for rates, words in said if rates))
    return lines


def report(args: argparse.Namespace, found: Margins, records: Sequence[Record]) -> dict[str, Any]:
    """Print the tables, draw the figure, return what the last line shows."""
    outcomes = {cell: np.stack([correct(one) for one in margins_SP2]) for cell, margins_SP2 in found.items()}
    accuracy = {cell: crossed(values) for cell, values in outcomes.items()}
    gaps = differences(outcomes)
    pairs = next(iter(outcomes.values())).shape[1]
    seeds = " ".join(map(str, args.seeds))
    print(f"accuracy of the true preference on {pairs} held-out pairs; seeds {seeds}:\n")
    head = ["objective", *(f"{rate:.0%} flipped" for rate in args.rates)]
    table(head, [[o, *(accuracy[o, r].text() for r in args.rates)] for o in args.objectives])
    if gaps:
        names = [o for o in args.objectives if o != "dpo"]
        print("minus that of dpo:\n")
        table(head, [[o, *(gaps[o, r].text(signed=True) for r in args.rates)] for o in names])
        print("\n".join(in_words(gaps)))
    gained = {cell: tuple(margins_SP2.mean((0, 1)).tolist()) for cell, margins_SP2 in found.items()}
    print("\nELBO gained by chosen / rejected held-out answers, nats, means:\n")
    table(head, [[o, *("{:+.1f} / {:+.1f}".format(*gained[o, r]) for r in args.rates)] for o in args.objectives])
    series = {o: [accuracy[o, rate] for rate in args.rates] for o in args.objectives}
    picture = lines_with_bands(
        args.rates, series, x_axis="training pairs with the wrong preference",
        y_axis="held-out accuracy of the true one", even=0.5,
    )  # fmt: skip
    write_bytes(args.output_dir / FIGURE, picture)
    print(f"\nfigure: {args.output_dir / FIGURE}")
    return {
        "accuracy": [{"objective": o, "flipped": r, **accuracy[o, r]._asdict()} for o, r in accuracy],
        "gained": [
            {"objective": o, "flipped": r, "chosen": up, "rejected": down} for (o, r), (up, down) in gained.items()
        ],
        "minus_dpo": [{"objective": o, "flipped": r, **gap._asdict()} for (o, r), gap in gaps.items()],
        "held_out_pairs": pairs,
        "seeds": args.seeds,
        "split": args.split,
        "settings": settings_of(args)[0].as_dict(),
        "cpu_seconds_per_run": float(np.mean([record["cpu_seconds"] for record in records])),
        "quick": args.quick,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    args = arguments(argv)
    return experiment("noisy_labels", args, lambda: report(args, *margins_of(args)))


if __name__ == "__main__":
    sys.exit(main())
