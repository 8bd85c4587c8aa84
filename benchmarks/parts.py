"""What each part of our step gives, one row each: from the published step to ours, change by change.

    python -m benchmarks.parts

Model, lengths and timing as in `benchmarks.step`, one batch of 4 examples. Every row is one exact way to compute a
gradient: rows above the line use the published draws, so they differ in cost alone (padding, and the micro-batch
whose mean is the baseline, also change the number: the published step centres every example on itself). "live
reference" scores the reference in the step instead of reading it from a cache. The last line printed is one JSON
object.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import Spread, interleaved, machine, parser, progress, ratios, table
from benchmarks.memory import peak_bytes
from benchmarks.our_step import Prepared, Schedule, objective_loss, one_pass, prepare, two_pass, values
from benchmarks.proportional import (
    DATA,
    PADDED_LENGTH,
    QUICK,
    Batch,
    checkpointed,
    data_lengths,
    proportional_model,
    representative,
)
from benchmarks.published_step import published_plans, published_step
from unveil.likelihood import combine
from unveil.models import Denoiser, LLaDAModelLM

ALL = 10**9


def longest_row_step(denoiser: Denoiser, prepared: Prepared, reference: Tensor) -> float:
    """Padding to the longest row of the batch under an attention mask, draw after draw, as TRL's collators do: logits
    everywhere, all graphs kept under checkpointing."""
    batch = prepared.batch
    longest, count = batch.longest, len(batch.responses)
    real = [[*r.prompt_ids, *r.completion_ids] for r in batch.responses]
    ids = torch.zeros(count, longest, dtype=torch.long)
    mask = torch.zeros(count, longest, dtype=torch.long)
    for row, tokens in enumerate(real):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.tensor(tokens), 1
    sums = []
    for draw in range(len(prepared.plans[0].positions)):
        rows, columns = _hidden(prepared, draw)
        masked = ids.clone()
        masked[rows, columns] = denoiser.mask_token_id
        with checkpointed(denoiser.model):
            logits_BTV = denoiser.model(input_ids=masked, attention_mask=mask).logits
        log_p = logits_BTV[rows, columns].log_softmax(dim=-1).gather(1, ids[rows, columns, None])[:, 0]
        sums.append(log_p.new_zeros(count).index_add(0, rows, log_p))
    loss = objective_loss(prepared, combine(torch.stack(sums, dim=1).view(-1), prepared.plans).values, reference)
    loss.backward()
    return float(loss.detach())


def _hidden(prepared: Prepared, draw: int) -> tuple[Tensor, Tensor]:
    """Row and column of every hidden token of one draw of every response."""
    rows, columns = [], []
    for row, (response, draws) in enumerate(zip(prepared.batch.responses, prepared.plans)):
        positions = torch.from_numpy(draws.positions[draw]) + len(response.prompt_ids)
        rows.append(torch.full_like(positions, row))
        columns.append(positions)
    return torch.cat(rows), torch.cat(columns)


def full_logits_step(denoiser: Denoiser, prepared: Prepared, reference: Tensor) -> float:
    """No padding, but logits of every token; one graph under checkpointing."""
    parts = []
    for packed in prepared.packed:
        with checkpointed(denoiser.model):
            logits_1TV = denoiser.model(input_ids=packed.input_ids_1T, segment_lengths=packed.segment_lengths).logits
        log_p = logits_1TV[0, packed.index_N].log_softmax(dim=-1).gather(1, packed.targets_N[:, None])[:, 0]
        parts += [part.sum() for part in log_p.split(packed.hidden_counts)]
    order = torch.tensor([row for packed in prepared.packed for row in packed.order])
    sums = torch.stack(parts)[order.argsort()]
    loss = objective_loss(prepared, combine(sums, prepared.plans).values, reference)
    loss.backward()
    return float(loss.detach())


def variants(model: LLaDAModelLM, batch: Batch, tokens_per_batch: int) -> dict[str, Callable[[], object]]:
    """The rows of the table, in its order."""
    denoiser = Denoiser(model)
    eight = Schedule(8, "iid", tokens_per_batch)
    four = Schedule(4, "quadratic_tiling", tokens_per_batch, tokens_per_batch)
    plans = published_plans(batch, eight.num_draws)
    zeros = [0.0] * len(plans)

    def timed(
        step: Callable[..., object], schedule: Schedule, live: bool = False, **flags: Any
    ) -> Callable[[], object]:
        cached = values(denoiser, prepare(denoiser, batch, schedule))

        def work() -> object:
            prepared = prepare(denoiser, batch, schedule)
            return step(denoiser, prepared, values(denoiser, prepared) if live else cached, **flags)

        return work

    kept: dict[str, Any] = {"kept_tokens": tokens_per_batch}
    return {
        "published step": lambda: published_step(model, batch, plans, zeros, PADDED_LENGTH),
        "published + head at hidden tokens": lambda: published_step(
            model, batch, plans, zeros, PADDED_LENGTH, hidden_logits=True
        ),
        "padded to the longest row of the batch": timed(longest_row_step, eight),
        "no padding": timed(full_logits_step, eight),
        "no padding, head at hidden tokens": timed(one_pass, eight, checkpointing=True),
        "+ two passes": timed(two_pass, eight),
        "+ graphs of one micro-batch kept": timed(two_pass, eight, **kept),
        "+ all graphs kept": timed(two_pass, eight, kept_tokens=ALL),
        "+ graphs of one micro-batch kept, live reference": timed(two_pass, eight, live=True, **kept),
        "4 draws of our design": timed(two_pass, four, **kept),
        "4 draws of our design, live reference": timed(two_pass, four, live=True, **kept),
        "4 draws of our design, all graphs kept": timed(two_pass, replace(four, kept_tokens=ALL), kept_tokens=ALL),
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    made = parser("parts", __doc__)
    made.add_argument("--data", type=Path, default=DATA, help="folder of the texts whose lengths are used")
    made.add_argument("--examples", type=int, help="examples of the batch (default: 4)")
    made.add_argument("--tokens_per_batch", type=int, default=PADDED_LENGTH, help="tokens of our micro-batches")
    return made.parse_args(argv)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the table, return what the last line shows."""
    model = proportional_model(**QUICK if args.quick else {})
    lengths, source = data_lengths(args.data)
    batch = representative(lengths, args.examples or (2 if args.quick else 4))
    works = variants(model, batch, args.tokens_per_batch)
    seconds = interleaved(works, args.repeats or (1 if args.quick else 3))
    peaks = {}
    for name, work in works.items():
        peaks[name] = peak_bytes(model, work) / 2**20
        progress(f"memory, {name}: {peaks[name]:.1f} MiB")
    published = next(iter(seconds.values()))
    speedups = {name: ratios(published, own) for name, own in seconds.items()}
    print(f"{json.dumps(batch.describe())}\n")
    table(
        ["step", "CPU s per example", "times faster than published", "peak MiB"],
        [
            [
                name,
                Spread.of([s / len(batch.responses) for s in own]).text(3),
                speedups[name].text(),
                f"{peaks[name]:.0f}",
            ]
            for name, own in seconds.items()
        ],
    )
    return {
        "speedups": {name: found.median for name, found in speedups.items()},
        "ranges": {name: found[1:] for name, found in speedups.items()},
        "peak_mebibytes": peaks,
        "lengths": batch.describe(),
        "lengths_from": source,
        "quick": args.quick,
        "machine": machine(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    args = arguments(argv)
    torch.set_num_threads(args.threads)
    print(json.dumps(run(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
