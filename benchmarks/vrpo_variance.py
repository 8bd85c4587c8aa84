"""VRPO's table at small scale: what mask sizes, masks and shared draws do to the noise of score, loss and gradient.

    python -m benchmarks.vrpo_variance --output_dir runs/vrpo_variance --jobs 2

    score     s = beta (r_w - r_l), r = B_policy - B_base of the chosen (w) and the rejected (l) review
    loss      softplus(-s)
    gradient  of the loss of one pair, all parameters: the exact trace of its covariance, no projection (the model is
              small enough to keep whole gradients; the paper looked at one matrix of one layer)

n_t independent mask sizes with n_yt masks each are drawn for every answer (design `iid`); where draws are shared the
base is scored on the policy's, else on its own. The last row is the default of this package at the price of 4 draws.

Model: the shipped base, and a policy that DPO moved from it on 1,234 review pairs. Pairs: held-out ones of
`benchmarks.review_pairs`. Everything is computed many times with fresh draws; a cell is the variance over these
replicates, averaged over pairs. Intervals are 95 % by bootstrap over pairs (each pair's variance holds the noise of its
replicates); ratios compare cells on the same resampled pairs. Chunks of pairs are kept in `runs.jsonl` and not
repeated. The last line printed is one JSON object.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import softplus
from transformers.utils import logging

from benchmarks.intervals import Estimate, crossed, ratio
from benchmarks.measuring import progress, table
from benchmarks.pair_training import Settings, responses, shipped_base, trained
from benchmarks.review_pairs import review_pairs
from benchmarks.runs import Job, Record, experiment, run_all
from unveil.draws import Plan, plan
from unveil.errors import UserError
from unveil.files import replace_folder
from unveil.likelihood import Response, build_rows, combine, micro_batches, row_values, score
from unveil.models import Denoiser, load_denoiser_model

BETA = 0.2
CHUNK = 8
POLICY_SEED, BASE_SEED = 0, 1


class Cell(NamedTuple):
    """How draws are made: n_t sizes, n_yt masks per size, whether the base shares them, and the design."""

    sizes: int
    masks: int
    shared: bool = True
    design: str = "iid"

    @property
    def name(self) -> str:
        """`4 x 1, shared`."""
        kind = "" if self.design == "iid" else f"{self.design}, "
        return f"{kind}{self.sizes} x {self.masks}, {'shared' if self.shared else 'not shared'}"

    def plan_of(self, response: Response, replicate: int, seed: int) -> Plan:
        """The draws of an answer in a replicate; with one seed, fewer draws are the first of more."""
        draws = self.sizes * self.masks
        return plan(seed, response.example_id, replicate, response.length, draws, self.design, self.masks)


ONE, FOUR, EIGHT = Cell(1, 1), Cell(4, 1), Cell(8, 1)
ONE_FOUR, TWO_TWO, APART = Cell(1, 4), Cell(2, 2), Cell(4, 1, shared=False)
OURS = Cell(4, 1, design="quadratic_tiling")
CELLS = (ONE, FOUR, EIGHT, ONE_FOUR, TWO_TWO, APART, OURS)

# (less noise, more noise): the orderings of VRPO's table and propositions, then what this package's design adds.
PUBLISHED = ((FOUR, ONE), (EIGHT, FOUR), (FOUR, TWO_TWO), (TWO_TWO, ONE_FOUR), (ONE_FOUR, ONE), (FOUR, APART))
ADDED = ((OURS, FOUR), (OURS, EIGHT))
QUANTITIES = ("score", "loss", "gradient")


@dataclass(frozen=True)
class Amount:
    """How much is measured."""

    pairs: int = 64
    replicates: int = 32
    gradient_replicates: int = 8


def moved_policy(settings: Settings, folder: Path) -> Path:
    """The checkpoint of the policy, trained where it is not there yet."""
    name = hashlib.sha256(json.dumps(settings.as_dict(), sort_keys=True).encode()).hexdigest()[:12]
    place = folder / f"policy-{name}"
    if not place.is_dir():
        progress(f"policy: {settings.steps} DPO steps from the shipped base")
        found = trained(review_pairs("feedback"), "dpo", settings, seed=0)
        with replace_folder(place) as made:
            found.model.save_pretrained(made)
    return place


@cache
def policy_of(folder: str) -> Denoiser:
    """The policy, once per process."""
    return Denoiser(load_denoiser_model(folder, torch.float32).eval())


def plans_of(cell: Cell, answers: Sequence[Response], replicate: int) -> tuple[list[Plan], list[Plan]]:
    """Draws of the policy and of the base."""
    own = [cell.plan_of(answer, replicate, POLICY_SEED) for answer in answers]
    return own, own if cell.shared else [cell.plan_of(answer, replicate, BASE_SEED) for answer in answers]


def scores(cell: Cell, policy: Denoiser, answers: Sequence[Response], replicates: int) -> np.ndarray:
    """s of every pair in every replicate, `[pairs, replicates]`."""
    base, found = shipped_base().denoiser, []
    for replicate in range(replicates):
        own, others = plans_of(cell, answers, replicate)
        margins = score(policy, answers, own).values - score(base, answers, others).values
        found.append(BETA * (margins[::2] - margins[1::2]).double().numpy())
    return np.stack(found, axis=1)


def gradients(cell: Cell, policy: Denoiser, pair: Sequence[Response], replicates: int) -> torch.Tensor:
    """Gradient of the loss of one pair in every replicate, `[replicates, parameters]`."""
    base, found = shipped_base().denoiser, []
    parameters = [p for p in policy.model.parameters() if p.requires_grad]
    for replicate in range(replicates):
        own, others = plans_of(cell, pair, replicate)
        reference = score(base, pair, others).values
        rows = build_rows(pair, own, policy.mask_token_id)
        (packed,) = micro_batches(rows, sum(row.length for row in rows))
        values = combine(row_values(policy, packed)[torch.tensor(packed.order).argsort()], own).values
        chosen, rejected = values - reference
        parts = torch.autograd.grad(softplus(-BETA * (chosen - rejected)), parameters)
        found.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(found)


def work(job: Job) -> Record:
    """Variances of a chunk of pairs, cell by cell: lists over its pairs."""
    logging.disable_progress_bar()
    chosen, (first, last) = dict(job["settings"]), job["pairs"]
    policy = policy_of(chosen.pop("policy"))
    answers = responses(review_pairs(job["split"])[first:last], Settings(**chosen))
    record: Record = {}
    for cell in CELLS:
        s = scores(cell, policy, answers, job["replicates"])
        loss = np.logaddexp(0, -s)
        traces, norms = [], []
        for pair in zip(answers[::2], answers[1::2]):
            found = gradients(cell, policy, pair, job["gradient_replicates"])
            mean = found.mean(dim=0)
            traces.append(float((found - mean).square().sum(dtype=torch.float64)) / (len(found) - 1))
            # The squared length of the mean holds 1 / replicates of the noise; less it, it is unbiased.
            norms.append(float(mean.square().sum(dtype=torch.float64)) - traces[-1] / len(found))
        record[cell.name] = {
            "score": s.var(axis=1, ddof=1).tolist(),
            "loss": loss.var(axis=1, ddof=1).tolist(),
            "gradient": traces,
            "gradient_norm": norms,
            "mean_score": s.mean(axis=1).tolist(),
        }
    return record


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    own = Amount()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vrpo_variance", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--output_dir", type=Path, default=Path("runs/vrpo_variance"))
    parser.add_argument("--pairs", type=int, help=f"held-out pairs (default: {own.pairs})")
    parser.add_argument("--replicates", type=int, help=f"of score and loss (default: {own.replicates})")
    parser.add_argument("--gradient_replicates", type=int, help=f"default: {own.gradient_replicates}")
    parser.add_argument("--policy_steps", type=int, help="DPO steps between base and policy (default: 30)")
    parser.add_argument("--split", choices=["tuning", "report"], default="report", help="reviews to measure on")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes of one thread each")
    parser.add_argument(
        "--quick", action="store_true", help="two pairs, few replicates: checks that it works, no figures"
    )
    args = parser.parse_args(argv)
    if args.quick:
        own = Amount(pairs=2, replicates=4, gradient_replicates=2)
    for name in ("pairs", "replicates", "gradient_replicates"):
        setattr(args, name, getattr(args, name) or getattr(own, name))
    if min(args.replicates, args.gradient_replicates) < 2:
        parser.error("--replicates and --gradient_replicates: at least 2 are needed for a variance")
    return args


def settings_of(args: argparse.Namespace) -> Settings:
    """How the policy is trained."""
    steps = args.policy_steps or (3 if args.quick else 30)
    settings = Settings(steps=steps, beta=BETA)
    return replace(settings, pairs_per_step=4, num_draws=1, train_pairs=16) if args.quick else settings


def variances(args: argparse.Namespace) -> dict[str, dict[str, np.ndarray]]:
    """By cell and quantity: a variance per pair, `[pairs]`; computes what is not on disk."""
    settings = settings_of(args)
    policy = moved_policy(settings, args.output_dir)
    count = min(args.pairs, len(review_pairs(args.split)))
    jobs = [
        {
            "pairs": [first, min(first + CHUNK, count)],
            "split": args.split,
            "replicates": args.replicates,
            "gradient_replicates": args.gradient_replicates,
            "settings": {**settings.as_dict(), "policy": str(policy)},
        }
        for first in range(0, count, CHUNK)
    ]
    records = run_all(jobs, work, args.output_dir, args.jobs)
    return {
        cell.name: {
            name: np.concatenate([np.array(record[cell.name][name]) for record in records])
            for name in (*QUANTITIES, "gradient_norm", "mean_score")
        }
        for cell in CELLS
    }


def checked(found: Mapping[str, Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
    """Every expected inequality with the ratio of the two variances and whether its interval is below 1."""
    return [
        {
            "quantity": quantity,
            "less": less.name,
            "more": more.name,
            "published": (less, more) in PUBLISHED,
            "ratio": (value := ratio(found[less.name][quantity], found[more.name][quantity])),
            "verdict": "holds" if value.high < 1 else "is reversed" if value.low > 1 else "is not shown",
        }
        for less, more in (*PUBLISHED, *ADDED)
        for quantity in QUANTITIES
    ]


def report(args: argparse.Namespace, found: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """Print the tables, return what the last line shows.

    Raises:
        UserError: policy and base are one model.
    """
    if not found[EIGHT.name]["score"].any():
        raise UserError(f"--policy_steps {args.policy_steps}: the policy did not move from the base; give more steps")
    means = {name: {q: crossed(own[q][None]) for q in QUANTITIES} for name, own in found.items()}
    # Cells differ in the mean gradient as well: without shared draws the sigmoid saturates and the signal shrinks.
    relative = {name: ratio(own["gradient"], own["gradient_norm"]) for name, own in found.items()}
    count = len(next(iter(found.values()))["score"])
    print(
        f"{count} held-out pairs, {args.replicates} replicates ({args.gradient_replicates} of gradients), beta {BETA}"
        f", mean score {found[EIGHT.name]['mean_score'].mean():+.3f}:\n"
    )

    def text(estimate: Estimate) -> str:
        return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"

    head = ["n_t x n_yt", "draws", "variance of score", "of loss", "of gradient", "gradient: variance / squared mean"]
    table(
        head,
        [
            [c.name, c.sizes * c.masks, *(text(means[c.name][q]) for q in QUANTITIES), text(relative[c.name])]
            for c in CELLS
        ],
    )
    checks = checked(found)
    words = [
        f"{'' if check['published'] else 'not in the paper: '}{check['quantity']}: {check['less']} < {check['more']} "
        f"{check['verdict']} (ratio {text(check['ratio'])})"
        for check in checks
    ]
    print("\n".join(words))
    published = [check for check in checks if check["published"]]
    holding = sum(check["verdict"] == "holds" for check in published)
    print(f"\n{holding} of the {len(published)} published orderings hold beyond their intervals")
    return {
        "variance": {name: {q: e._asdict() for q, e in own.items()} for name, own in means.items()},
        "relative_gradient_variance": {name: e._asdict() for name, e in relative.items()},
        "checks": [{**check, "ratio": check["ratio"]._asdict()} for check in checks],
        "published_orderings": len(published),
        "published_orderings_that_hold": holding,
        "pairs": count,
        "replicates": args.replicates,
        "gradient_replicates": args.gradient_replicates,
        "beta": BETA,
        "policy": settings_of(args).as_dict(),
        "quick": args.quick,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    args = arguments(argv)
    return experiment("vrpo_variance", args, lambda: report(args, variances(args)))


if __name__ == "__main__":
    sys.exit(main())
