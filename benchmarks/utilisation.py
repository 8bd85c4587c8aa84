"""Model FLOPs utilisation of our step: what it achieves over what one big matrix product achieves in the same run.

    python -m benchmarks.utilisation
    python -m benchmarks.utilisation --device cuda --shape 8b --lora_r 64
    python -m benchmarks.utilisation --device cuda --shape 8b            # full fine-tuning, gradients only

`mfu` counts what the gradient needs, a forward and a backward of every row once (3 forward units; 2 of a frozen
weight): work that a schedule does twice does not count. `hfu` counts the second forward too. FLOPs: 2 per weight and
token, 4 d T^2 per layer and row for attention, head and last feed-forward at hidden tokens only.

CPU: a 100M-parameter model, float32, process CPU time of one thread. CUDA: LLaDA-8B's shape with random bfloat16
weights and unshrunk lengths, wall time between synchronisations. Repeats are interleaved with the matrix product. The
last line printed is one JSON object.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model

from benchmarks.measuring import Spread, machine, parser, progress, table
from benchmarks.our_step import Prepared, Schedule, prepare, split_kept, two_pass, values
from benchmarks.proportional import DATA, SHRINK, data_lengths, proportional_model, representative
from unveil.models import LORA_TARGETS, Denoiser

ALL = 10**9


class Shape(NamedTuple):
    """A model, the batch that it is given, and the side of the matrices of the big product."""

    width: int
    layers: int
    heads: int
    vocab_size: int
    shrink: int
    examples: int
    tokens_per_batch: int
    matrix: int


SHAPES = {
    "100m": Shape(768, 12, 12, 8192, SHRINK, 8, 1024, 2048),
    "8b": Shape(4096, 32, 32, 126464, 1, 16, 8192, 8192),
    "quick": Shape(64, 2, 4, 256, SHRINK, 2, 512, 128),
}


class Flops(NamedTuple):
    """Of one step: `needed` by the gradient, `executed` by the schedule."""

    needed: float
    executed: float


def forward_flops(shape: Shape, rows: Sequence[tuple[int, int]]) -> float:
    """Of one forward of rows (tokens, hidden tokens); the last block's output and feed-forward run at hidden tokens."""
    d = shape.width
    total = 0.0
    for tokens, hidden in rows:
        projections, rest = 2 * 3 * d * d, 2 * (d * d + 3 * 3 * d * d)
        total += shape.layers * (tokens * projections + 4 * d * tokens**2)
        total += rest * ((shape.layers - 1) * tokens + hidden) + 2 * hidden * d * shape.vocab_size
    return total


def step_flops(shape: Shape, prepared: Prepared, kept_tokens: int, frozen: bool) -> Flops:
    """Adapters of low rank are left out, in favour of a lower figure."""
    rows = [pair for part in prepared.packed for pair in zip(part.segment_lengths, part.hidden_counts)]
    again = [
        pair for p in split_kept(prepared.packed, kept_tokens)[0] for pair in zip(p.segment_lengths, p.hidden_counts)
    ]
    needed = (2 if frozen else 3) * forward_flops(shape, rows)
    return Flops(needed, needed + forward_flops(shape, again))


def clock(device: torch.device) -> Callable[[], float]:
    """Process CPU time, or wall time once the device has finished."""
    if device.type == "cpu":
        return time.process_time

    def synchronised() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return synchronised


def matmul_rate(side: int, device: torch.device, dtype: torch.dtype, now: Callable[[], float], times: int) -> float:
    """FLOP/s of a product of two square matrices, the best of some."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    rates = []
    for _ in range(times):
        started = now()
        torch.mm(a, b)
        rates.append(2 * side**3 / max(now() - started, 1e-9))
    return max(rates)


def make_model(shape: Shape, device: torch.device, dtype: torch.dtype, lora_r: int) -> torch.nn.Module:
    """Random weights, made on the device; with adapters when `lora_r` is above 0."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model: Any = proportional_model(
                shape.width, shape.layers, shape.vocab_size, shape.heads, 4096 // shape.shrink
            )
    finally:
        torch.set_default_dtype(default)
    if lora_r:
        model = get_peft_model(model, LoraConfig(r=lora_r, lora_alpha=lora_r, target_modules=LORA_TARGETS))
    return model


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    made = parser("utilisation", __doc__)
    made.add_argument("--data", type=Path, default=DATA, help="folder of the texts whose lengths are used")
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    made.add_argument("--shape", choices=list(SHAPES), help="model (default: 100m)")
    made.add_argument("--lora_r", type=int, default=0, help="rank of adapters; 0 trains all weights")
    made.add_argument("--num_draws", type=int, default=4)
    made.add_argument("--tokens_per_batch", type=int, help="tokens of a micro-batch (default: the shape's)")
    made.add_argument("--kept_tokens", type=int, nargs="+", help="tokens whose graphs are kept, one table row each")
    return made.parse_args(argv)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the table, return what the last line shows."""
    device = torch.device(args.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    name = args.shape or ("quick" if args.quick else "100m")
    shape = SHAPES[name]
    budget = args.tokens_per_batch or shape.tokens_per_batch
    keeps = args.kept_tokens or ([0, budget, ALL] if device.type == "cpu" else [0, budget])
    lengths, source = data_lengths(args.data)
    batch = representative(lengths, shape.examples, shape.vocab_size, shape.shrink)
    model = make_model(shape, device, dtype, args.lora_r)
    denoiser = Denoiser(model)
    prepared = prepare(denoiser, batch, Schedule(args.num_draws, "quadratic_tiling", budget))
    reference = values(denoiser, prepared)
    now = clock(device)
    two_pass(denoiser, prepared, reference)  # warm-up

    peaks: list[float] = []
    seconds: dict[int, list[float]] = {kept: [] for kept in keeps}
    for repeat in range(args.repeats or (1 if args.quick else 3)):
        peaks.append(matmul_rate(shape.matrix, device, dtype, now, 5))
        for kept, own in seconds.items():
            started = now()
            two_pass(denoiser, prepared, reference, kept)
            own.append(now() - started)
            progress(f"repeat {repeat + 1}, kept tokens {kept}: {own[-1]:.2f} s, matmul {peaks[-1] / 1e9:.1f} GFLOP/s")

    found = {}
    for kept, own in seconds.items():
        flops = step_flops(shape, prepared, kept, frozen=args.lora_r > 0)
        found[kept] = {
            "seconds": Spread.of(own),
            "mfu": Spread.of([flops.needed / s / peak for s, peak in zip(own, peaks)]),
            "hfu": Spread.of([flops.executed / s / peak for s, peak in zip(own, peaks)]),
        }
    tokens = sum(sum(part.segment_lengths) for part in prepared.packed)
    print(f"{name}: {sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters, {tokens} tokens per step\n")
    table(
        ["graphs kept", "seconds", "MFU", "HFU"],
        [
            ["all" if kept == ALL else f"{kept} tokens", *(part[key].text(3) for key in ("seconds", "mfu", "hfu"))]
            for kept, part in found.items()
        ],
    )
    best = max(found.values(), key=lambda part: part["mfu"].median)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    extra = {"peak_gibibytes": torch.cuda.max_memory_allocated(device) / 2**30} if device.type == "cuda" else {}
    return {
        "mfu": best["mfu"].median,
        "hfu": best["hfu"].median,
        "mfu_by_kept_tokens": {str(kept): part["mfu"].median for kept, part in found.items()},
        "matmul_gflops": Spread.of(peaks).median / 1e9,
        "tokens_per_second": tokens / best["seconds"].median,
        "shape": name,
        "lora_r": args.lora_r,
        "device": where,
        "lengths": batch.describe(),
        "lengths_from": source,
        "quick": args.quick,
        "machine": machine(),
        **extra,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    args = arguments(argv)
    torch.set_num_threads(args.threads)
    print(json.dumps(run(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
