"""Our step against the published one: time, memory, and the error of the gradient. `--quick` only checks that it runs.

    python -m benchmarks.step

Time and memory: the model and lengths of `benchmarks.proportional`, random weights. Every repeat runs, one after the
other, the published step (8 draws), ours with the same 8 independent draws, and ours with 4 draws of our default
design, each on 4 and on 16 examples; a speedup is the ratio of process CPU time inside one repeat, its median and
range over repeats. The reference is cached for both. Our micro-batches hold at most the padded length (512 tokens),
so any row fits, and the graphs of one micro-batch are kept from pass 1, which costs no peak memory; one row keeps them
all, where memory allows.

Errors: `benchmarks.gradient_error`, on a trained model. "Equal variance" means gradient variance at most 1.1 and
margin variance at most 1.0 of the published 8 draws.

Memory: peak bytes of tensors above weights and gradients (`benchmarks.memory`).

The last line printed is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from benchmarks.gradient_error import measure_errors, ratio_with_interval, trained_pair
from benchmarks.measuring import Spread, interleaved, machine, parser, progress, ratios, table
from benchmarks.memory import peak_bytes
from benchmarks.our_step import Schedule, one_pass, prepare, two_pass, values
from benchmarks.proportional import DATA, PADDED_LENGTH, QUICK, Batch, data_lengths, proportional_model, representative
from benchmarks.published_step import published_plans, published_reference, published_step
from unveil.models import Denoiser, LLaDAModelLM

PUBLISHED_DRAWS = 8
ALL = 10**9
GRADIENT_BAR, MARGIN_BAR = 1.1, 1.0


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    examples: tuple[int, ...] = (4, 16)
    memory_examples: tuple[int, int] = (16, 64)
    repeats: int = 3
    policy_steps: int = 30
    policy_batch: int = 32
    held_out: int = 12
    reference_draws: int = 256
    gradient_replicates: int = 24
    margin_replicates: int = 120


SMALL = Sizes((2,), (2, 4), 1, 1, 8, 2, 16, 2, 4)


def same_draws(schedule: Schedule) -> Schedule:
    """Ours with the published draws."""
    return replace(schedule, num_draws=PUBLISHED_DRAWS, design="iid")


def steps(model: LLaDAModelLM, batch: Batch, ours: Schedule, with_reference: bool) -> dict[str, Callable[[], object]]:
    """What is timed, most expensive first; drawing and packing are part of a step."""
    denoiser = Denoiser(model)
    equal = same_draws(ours)
    plans = published_plans(batch, PUBLISHED_DRAWS)
    # Values of a reference; at batch 1 the published step's weights do not depend on them.
    known = published_reference(model, batch, plans, PADDED_LENGTH) if with_reference else [0.0] * len(plans)

    def our_step(schedule: Schedule) -> Callable[[], object]:
        reference = values(denoiser, prepare(denoiser, batch, schedule))
        return lambda: two_pass(denoiser, prepare(denoiser, batch, schedule), reference, schedule.kept_tokens)

    return {
        "published, 8 draws": lambda: published_step(model, batch, plans, known, PADDED_LENGTH),
        "ours, 8 draws": our_step(equal),
        "ours, 8 draws, all graphs kept": our_step(replace(equal, kept_tokens=ALL)),
        f"ours, {ours.num_draws} draws": our_step(ours),
    }


def measure_time(model: LLaDAModelLM, batch: Batch, ours: Schedule, repeats: int, quick: bool) -> dict[str, Any]:
    """The table of one batch, and its speedups."""
    count = len(batch.responses)
    seconds = interleaved(steps(model, batch, ours, quick), repeats, f"{count} examples:")
    published = next(iter(seconds.values()))
    speedups = {name: ratios(published, own) for name, own in seconds.items()}
    print(f"{count} examples: {json.dumps(batch.describe())}\n")
    table(
        ["step", "CPU s per example", "times faster than published"],
        [[name, Spread.of([s / count for s in own]).text(3), speedups[name].text()] for name, own in seconds.items()],
    )
    return {"seconds": seconds, "speedups": speedups, "lengths": batch.describe()}


def measure_memory(
    model: LLaDAModelLM, batches: tuple[Batch, Batch], ours: Schedule
) -> tuple[dict[str, float], dict[str, float]]:
    """Peak MiB of every case, and the ratios."""
    denoiser = Denoiser(model)
    small, large = batches

    def ours_on(batch: Batch, schedule: Schedule) -> float:
        prepared = prepare(denoiser, batch, schedule)
        reference = values(denoiser, prepared)
        return _mebibytes(model, lambda: two_pass(denoiser, prepared, reference, schedule.kept_tokens))

    def checkpointing(tokens_per_batch: int) -> float:
        prepared = prepare(denoiser, small, replace(equal, tokens_per_batch=tokens_per_batch))
        reference = values(denoiser, prepared)
        return _mebibytes(model, lambda: one_pass(denoiser, prepared, reference, checkpointing=True))

    equal = same_draws(ours)
    one = Batch(small.responses[:1], small.desirable[:1])
    plans = published_plans(one, PUBLISHED_DRAWS)
    few, many = len(small.responses), len(large.responses)
    peaks = {
        "published, 8 draws, any batch": _mebibytes(
            model, lambda: published_step(model, one, plans, [0.0], PADDED_LENGTH)
        ),
        f"ours, 1 draw, {few} examples": ours_on(small, replace(equal, num_draws=1)),
        f"ours, 16 draws, {few} examples": ours_on(small, replace(equal, num_draws=16)),
        f"ours, 8 draws, {few} examples": ours_on(small, equal),
        f"ours, 8 draws, {many} examples": ours_on(large, equal),
        f"one pass, checkpointing, {few} examples": checkpointing(PUBLISHED_DRAWS * small.longest),
        f"one pass, checkpointing, {few} examples, our micro-batches": checkpointing(ours.tokens_per_batch),
    }
    published, one_draw, many_draws, own, grown, checkpointed, checkpointed_small = peaks.values()
    return peaks, {
        "memory_ratio_draws_16_to_1": many_draws / one_draw,
        "memory_ratio_examples_64_to_16": grown / own,
        "memory_ratio_to_checkpointing": own / checkpointed,
        "memory_ratio_to_checkpointing_same_micro_batches": own / checkpointed_small,
        "memory_ratio_to_published": own / published,
    }


def _mebibytes(model: LLaDAModelLM, work: Callable[[], object]) -> float:
    found = peak_bytes(model, work) / 2**20
    progress(f"memory: {found:.1f} MiB")
    return found


def measure_error(ours: Schedule, sizes: Sizes) -> dict[str, Any]:
    """Errors of both estimators on the trained pair."""
    pair = trained_pair(sizes.policy_steps, sizes.policy_batch, sizes.held_out)
    theirs, own = measure_errors(
        pair, [same_draws(ours), ours], sizes.reference_draws, sizes.gradient_replicates, sizes.margin_replicates
    )
    gradient = ratio_with_interval(own.gradient, theirs.gradient)
    margin = ratio_with_interval(own.margin, theirs.margin)
    order = sorted(range(len(pair.held_out.responses)), key=lambda i: pair.held_out.responses[i].length)
    lengths = [pair.held_out.responses[i].length for i in order]
    halves = {"shorter": order[: len(order) // 2], "longer": order[len(order) // 2 :]}
    print(f"errors on a trained model, {len(lengths)} held-out answers of {lengths[0]} to {lengths[-1]} tokens:\n")
    table(
        ["draws", "gradient: rms error / norm", "margin: rms error, nats", "gradient variance", "margin variance"],
        [
            ["published, 8", f"{theirs.relative_gradient_error:.3f}", f"{theirs.margin_sd:.2f}", "1", "1"],
            [
                f"{ours.design}, {ours.num_draws}",
                f"{own.relative_gradient_error:.3f}",
                f"{own.margin_sd:.2f}",
                *(f"{r:.3f} ({low:.3f}-{high:.3f})" for r, low, high in (gradient, margin)),
            ],
        ],
    )
    by_length: dict[str, dict[str, Any]] = {
        name: {
            "mean_tokens": sum(pair.held_out.responses[i].length for i in half) / len(half),
            "gradient_variance_ratio": ratio_with_interval(own.gradient[half], theirs.gradient[half]),
            "margin_variance_ratio": ratio_with_interval(own.margin[half], theirs.margin[half]),
        }
        for name, half in halves.items()
    }
    table(
        ["half of the answers", "mean tokens", "gradient variance", "margin variance"],
        [
            [name, f"{part['mean_tokens']:.0f}", *(f"{r:.3f} ({a:.3f}-{b:.3f})" for r, a, b in list(part.values())[1:])]
            for name, part in by_length.items()
        ],
    )
    return {
        "gradient_variance_ratio": gradient[0],
        "gradient_variance_interval": gradient[1:],
        "margin_variance_ratio": margin[0],
        "margin_variance_interval": margin[1:],
        "by_length": by_length,
        "equal_variance": gradient[0] <= GRADIENT_BAR and margin[0] <= MARGIN_BAR,
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    made = parser("step", __doc__)
    made.add_argument("--data", type=Path, default=DATA, help="folder of the texts whose lengths are used")
    made.add_argument("--num_draws", type=int, default=4, help="our draws at equal variance")
    made.add_argument("--draw_design", default="quadratic_tiling", help="our design at equal variance")
    made.add_argument("--strata_exponent", type=float, default=2.0, help="exponent of our strata")
    made.add_argument("--tokens_per_batch", type=int, default=PADDED_LENGTH, help="tokens of our micro-batches")
    made.add_argument("--kept_tokens", type=int, help="tokens whose graphs are kept (default: one micro-batch)")
    made.add_argument("--skip", nargs="+", default=[], choices=["time", "memory", "error"], help="leave parts out")
    return made.parse_args(argv)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the tables, return what the last line shows."""
    sizes = SMALL if args.quick else Sizes()
    kept = args.tokens_per_batch if args.kept_tokens is None else args.kept_tokens
    ours = Schedule(args.num_draws, args.draw_design, args.tokens_per_batch, kept, args.strata_exponent)
    model = proportional_model(**QUICK if args.quick else {})
    lengths, source = data_lengths(args.data)
    report: dict[str, Any] = {}
    if "time" not in args.skip:
        by_size = {
            count: measure_time(model, representative(lengths, count), ours, args.repeats or sizes.repeats, args.quick)
            for count in sizes.examples
        }
        largest = by_size[sizes.examples[-1]]["speedups"]
        report["speedup_equal_draws"] = largest["ours, 8 draws"].median
        report["speedup_equal_variance"] = largest[f"ours, {ours.num_draws} draws"].median
        report["speedup_equal_draws_all_kept"] = largest["ours, 8 draws, all graphs kept"].median
        report["by_examples"] = by_size
    if "memory" not in args.skip:
        few, many = (representative(lengths, count) for count in sizes.memory_examples)
        peaks, found = measure_memory(model, (few, many), ours)
        print(f"peak memory above weights and gradients; longest rows {few.longest} and {many.longest} tokens:\n")
        table(["step", "MiB"], [[name, f"{peak:.1f}"] for name, peak in peaks.items()])
        report |= found | {"peak_mebibytes": peaks}
    if "error" not in args.skip:
        report |= measure_error(ours, sizes)
    return report | {
        "tokens_per_batch": ours.tokens_per_batch,
        "kept_tokens": ours.kept_tokens,
        "lengths_from": source,
        "quick": args.quick,
        "machine": machine(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    args = arguments(argv)
    torch.set_num_threads(args.threads)
    logging.disable_progress_bar()
    print(json.dumps(run(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
