"""How our step's cost grows with draws, batch, length and vocabulary: exponents of fitted power laws.

    python -m benchmarks.scaling

The proportional model, two passes, published draws. Draws and batch: cost against tokens processed. Length: the same
number of rows of growing length (attention's quadratic part lifts the exponent above 1). Vocabulary: the cost that it
adds to a step of nearly nothing but hidden tokens, i.e. the time above that of a vocabulary of 64. An exponent of 1 is
linear. CPU time, sizes interleaved, medians; the last line printed is one JSON object.

Large vocabularies on a CPU: glibc gives every large tensor back to the system, and its pages are cleared again for the
next one, which grows faster than the vocabulary. With MALLOC_MMAP_THRESHOLD_=4000000000,
MALLOC_TRIM_THRESHOLD_=20000000000 and MALLOC_TOP_PAD_=500000000 in the environment memory is kept.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import Spread, interleaved, machine, parser, table
from benchmarks.our_step import Schedule, prepare, two_pass, values
from benchmarks.proportional import (
    DATA,
    PADDED_LENGTH,
    QUICK,
    Batch,
    batch_of,
    data_lengths,
    proportional_model,
    representative,
)
from unveil.models import Denoiser, LLaDAModelLM

PARTS = ["draws", "batch", "length", "vocabulary"]
SMALLEST_VOCABULARY = 64


def timed_step(model: LLaDAModelLM, batch: Batch, schedule: Schedule) -> Callable[[], object]:
    """One step with cached reference values."""
    denoiser = Denoiser(model)
    reference = values(denoiser, prepare(denoiser, batch, schedule))
    return lambda: two_pass(denoiser, prepare(denoiser, batch, schedule), reference)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of log cost against log size, least squares."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def rows_of(prompt: int, completion: int, count: int, vocab_size: int = 2048) -> Batch:
    """Equal responses, half of them liked."""
    return batch_of([(prompt, completion)] * count, [i % 2 == 0 for i in range(count)], vocab_size)


def report(name: str, sizes: Sequence[float], seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Print one table; the sizes are what the exponent is fitted against."""
    costs = [median(own) for own in seconds.values()]
    found = exponent(sizes, costs)
    print(f"{name}: cost grows with exponent {found:.3f}\n")
    rows = [[key, f"{size:.0f}", Spread.of(own).text(3)] for (key, own), size in zip(seconds.items(), sizes)]
    table([name, "size fitted", "CPU s"], rows)
    return {"exponent": found, "sizes": list(sizes), "seconds": costs}


def draws(model: LLaDAModelLM, batch: Batch, counts: Sequence[int], repeats: int) -> dict[str, Any]:
    """Cost against the number of draws."""
    works = {str(k): timed_step(model, batch, Schedule(k)) for k in counts}
    return report("draws", counts, interleaved(works, repeats, "draws"))


def batches(model: LLaDAModelLM, lengths: Any, counts: Sequence[int], repeats: int) -> dict[str, Any]:
    """Cost against examples of matched mean length, in the tokens that they hold."""
    found = [representative(lengths, count) for count in counts]
    works = {str(count): timed_step(model, batch, Schedule(4)) for count, batch in zip(counts, found)}
    tokens = [sum(len(r.prompt_ids) + r.length for r in batch.responses) for batch in found]
    return report("batch", tokens, interleaved(works, repeats, "batch"))


def row_lengths(model: LLaDAModelLM, lengths: Sequence[int], repeats: int) -> dict[str, Any]:
    """Cost against the length of a row, prompt and completion in the proportion of the data."""
    works = {
        str(n): timed_step(model, rows_of(n - round(0.44 * n), round(0.44 * n), 4), Schedule(4, tokens_per_batch=1024))
        for n in lengths
    }
    return report("length", lengths, interleaved(works, repeats, "length"))


def vocabularies(model_of: Callable[[int], LLaDAModelLM], sizes: Sequence[int], repeats: int) -> dict[str, Any]:
    """What the vocabulary adds to a step."""
    works = {}
    for size in (*sizes, SMALLEST_VOCABULARY):
        batch = rows_of(1, 255, 4, size)
        works[str(size)] = timed_step(model_of(size), batch, Schedule(4))
    seconds = interleaved(works, repeats, "vocabulary")
    floor = seconds.pop(str(SMALLEST_VOCABULARY))
    added = {name: [max(a - b, 1e-9) for a, b in zip(own, floor)] for name, own in seconds.items()}
    return report("vocabulary", sizes, added)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    made = parser("scaling", __doc__)
    made.add_argument("--data", type=Path, default=DATA, help="folder of the texts whose lengths are used")
    made.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    return made.parse_args(argv)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all four, or `--only` some; return what the last line shows."""
    quick = args.quick
    shape = QUICK if quick else {}
    repeats = args.repeats or (1 if quick else 3)
    lengths, source = data_lengths(args.data)
    model = proportional_model(**shape)
    works: dict[str, Callable[[], dict[str, Any]]] = {
        "draws": lambda: draws(
            model, representative(lengths, 2 if quick else 8), (1, 2) if quick else (1, 2, 4, 8, 16), repeats
        ),
        "batch": lambda: batches(model, lengths, (2, 4) if quick else (4, 8, 16, 32), repeats),
        "length": lambda: row_lengths(model, (32, 64) if quick else (32, 64, 128, 256, PADDED_LENGTH), repeats),
        "vocabulary": lambda: vocabularies(
            lambda size: proportional_model(**shape | {"layers": 1}, vocab_size=size),
            (512, 1024) if quick else (8192, 16384, 32768, 65536),
            repeats,
        ),
    }
    found = {name: work() for name, work in works.items() if name in args.only}
    exponents = {f"exponent_{name}": part["exponent"] for name, part in found.items()}
    return exponents | {"parts": found, "lengths_from": source, "quick": quick, "machine": machine()}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    args = arguments(argv)
    torch.set_num_threads(args.threads)
    print(json.dumps(run(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
