"""Does another surrogate for what is pushed down stop likelihood displacement? `--negative_surrogate`, measured.

    python -m benchmarks.negative_surrogate --output_dir runs/negative_surrogate --jobs 2

The ELBO is a lower bound: pushing it down need not push the likelihood down, and usually drags liked answers along. SPG
(arXiv 2510.09541) pushes an upper bound down instead. Here DPO (and KTO, `--objectives`) is trained on 1,234 pairs of
film reviews with human ratings (`benchmarks.review_pairs`) with every surrogate of rejected answers: the ELBO, the
EUBO, the mixture of both, and the Holder bound. On 328 pairs that no training saw: how much the ELBO of chosen and of
rejected answers has moved (nats per answer; both below zero is displacement), and how often the margin still prefers
the chosen one.

The same base, seeds, order and draws (4 per answer) for all; intervals are 95 %, over seeds and held-out pairs, and
differences to the ELBO compare the same pairs under the same seeds. Finished runs are kept in `runs.jsonl` and not
repeated. The last line printed is one JSON object.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from benchmarks.figures import crosses
from benchmarks.intervals import Estimate, crossed
from benchmarks.measuring import progress, table
from benchmarks.pair_training import Settings, correct, held_out_data, margins, trained
from benchmarks.review_pairs import review_pairs
from benchmarks.runs import Record, experiment, run_all
from unveil.files import write_bytes

SURROGATES = ("elbo", "mix", "eubo", "holder")
FIGURE = "negative_surrogate.png"
OWN = Settings(num_draws=4)


def work(job: dict[str, Any]) -> Record:
    """Train and measure one run: what the ELBO has gained `[pairs][chosen, rejected]`, nats."""
    logging.disable_progress_bar()
    chosen = dict(job["settings"])
    count = chosen.pop("held_out")
    settings = Settings(**chosen)
    found = trained(
        review_pairs("feedback"), job["objective"], settings, job["seed"], negative_surrogate=job["surrogate"]
    )
    answers, reference = held_out_data(job["split"], count, settings)
    own = margins(found.model, answers, reference, settings.eval_draws)
    up, down = own.mean(0)
    progress(f"{job['objective']}, {job['surrogate']}, seed {job['seed']}: chosen {up:+.2f}, rejected {down:+.2f} nats")
    return {"margins": own.round(4).tolist(), "cpu_seconds": found.cpu_seconds}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.negative_surrogate", description=about)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/negative_surrogate"))
    parser.add_argument("--objectives", nargs="+", choices=["dpo", "kto"], default=["dpo"])
    parser.add_argument("--surrogates", nargs="+", choices=SURROGATES, default=list(SURROGATES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", choices=["tuning", "report"], default="report", help="reviews to measure on")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes of one thread each")
    parser.add_argument("--steps", type=int, default=OWN.steps)
    parser.add_argument("--learning_rate", type=float, default=OWN.learning_rate)
    parser.add_argument("--beta", type=float, default=OWN.beta)
    parser.add_argument("--quick", action="store_true", help="two steps of few runs: checks that it works, no figures")
    args = parser.parse_args(argv)
    if args.quick:
        args.seeds, args.surrogates = args.seeds[:1], args.surrogates[:2]
    if "elbo" not in args.surrogates:
        parser.error("--surrogates: elbo is what the others are compared with; add it")
    return args


def settings_of(args: argparse.Namespace) -> tuple[Settings, int | None]:
    """The settings of every run, and how many held-out pairs count (None: all)."""
    settings = replace(OWN, steps=args.steps, learning_rate=args.learning_rate, beta=args.beta)
    if not args.quick:
        return settings, None
    return replace(settings, steps=2, pairs_per_step=4, num_draws=2, eval_draws=1, train_pairs=16), 12


def gains_of(args: argparse.Namespace) -> dict[tuple[str, str], np.ndarray]:
    """Run everything that is not on disk; per objective and surrogate `[seeds, pairs, 2]`, nats."""
    settings, count = settings_of(args)
    jobs = [
        {"objective": objective, "surrogate": surrogate, "seed": seed, "split": args.split,
         "settings": {**settings.as_dict(), "held_out": count}}
        for objective in args.objectives for seed in args.seeds for surrogate in args.surrogates
    ]  # fmt: skip
    records = run_all(jobs, work, args.output_dir, args.jobs)  # type: ignore[arg-type]
    return {
        (o, s): np.array([r["margins"] for j, r in zip(jobs, records) if (j["objective"], j["surrogate"]) == (o, s)])
        for o in args.objectives
        for s in args.surrogates
    }


def quantities(gains_SP2: np.ndarray, of_elbo_SP2: np.ndarray) -> dict[str, Estimate]:
    """What is shown of one objective with one surrogate."""
    right, right_elbo = (np.stack([correct(one) for one in gains]) for gains in (gains_SP2, of_elbo_SP2))
    return {
        "chosen": crossed(gains_SP2[..., 0]),
        "rejected": crossed(gains_SP2[..., 1]),
        "chosen_minus_elbo": crossed(gains_SP2[..., 0] - of_elbo_SP2[..., 0]),
        "margin": crossed(gains_SP2[..., 0] - gains_SP2[..., 1]),
        "accuracy": crossed(right),
        "accuracy_minus_elbo": crossed(right - right_elbo),
    }


def report(args: argparse.Namespace, gains: dict[tuple[str, str], np.ndarray]) -> dict[str, Any]:
    """Print the table, draw the figure, return what the last line shows."""
    found = {(o, s): quantities(own, gains[o, "elbo"]) for (o, s), own in gains.items()}
    print(f"{next(iter(gains.values())).shape[1]} held-out pairs, seeds {' '.join(map(str, args.seeds))}\n")
    rows = []
    for (objective, surrogate), of in found.items():
        gap, better = ("", "") if surrogate == "elbo" else (
            of["chosen_minus_elbo"].text(2, True), of["accuracy_minus_elbo"].text(3, True)
        )  # fmt: skip
        moved = [of[name].text(2, True) for name in ("chosen", "rejected", "margin")]
        rows.append([objective, surrogate, *moved[:2], gap, moved[2], of["accuracy"].text(), better])
    table(
        ["objective", "pushed down", "chosen, nats", "rejected, nats", "chosen minus elbo's", "margin, nats",
         "accuracy", "minus elbo's"],
        rows,
    )  # fmt: skip
    points = {
        s if len(args.objectives) == 1 else f"{o}, {s}": (of["chosen"], of["rejected"]) for (o, s), of in found.items()
    }
    axes = ("ELBO gained by chosen answers, nats", "ELBO gained by rejected answers, nats")
    write_bytes(args.output_dir / FIGURE, crosses(points, x_axis=axes[0], y_axis=axes[1], x_base=0.0, y_even=0.0))
    print(f"figure: {args.output_dir / FIGURE}")
    return {
        "runs": [
            {"objective": o, "surrogate": s, **{name: e._asdict() for name, e in of.items()}}
            for (o, s), of in found.items()
        ],
        "seeds": args.seeds,
        "split": args.split,
        "settings": settings_of(args)[0].as_dict(),
        "quick": args.quick,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    args = arguments(argv)
    return experiment("negative_surrogate", args, lambda: report(args, gains_of(args)))


if __name__ == "__main__":
    sys.exit(main())
