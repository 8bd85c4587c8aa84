"""What accelerators can do, from their makers' data sheets: dense bfloat16 matrix products, and memory.

Peaks are without sparsity. A GB is 10^9 bytes; cards hold up to 7 % more than that (they count 2^30), which is left to
the CUDA context, kernels' workspace and the allocator, with `RESERVE` on top.
"""

import re
from typing import NamedTuple

from unveil.errors import UserError

RESERVE = 0.05
"""Share of the named memory that no plan may use."""


class Card(NamedTuple):
    """One accelerator: peak of dense bfloat16 products (TFLOP/s) and memory (GB)."""

    tflops: float
    memory_gb: float


CARDS: dict[str, Card] = {
    "H100-80GB": Card(989.4, 80),  # SXM
    "H200-141GB": Card(989.4, 141),
    "A100-40GB": Card(312, 40),
    "A100-80GB": Card(312, 80),
    "L40S-48GB": Card(362, 48),
    "RTX4090-24GB": Card(165.2, 24),  # float32 accumulation
    "MI300X-192GB": Card(1307.4, 192),
    "B200-180GB": Card(2250, 180),
}


class Devices(NamedTuple):
    """`count` devices of one kind; a CPU has no memory limit here."""

    count: int
    name: str
    tflops: float
    memory_gb: float | None

    @property
    def usable(self) -> float | None:
        """Bytes of one device that a plan may use."""
        return None if self.memory_gb is None else self.memory_gb * 1e9 * (1 - RESERVE)

    def __str__(self) -> str:
        return self.name if self.memory_gb is None else f"{self.count} x {self.name}"


def devices(
    text: str, memory_gb: float | None = None, tflops: float | None = None, cpu_gflops: float | None = None
) -> Devices:
    """`8xA100-80GB`, `H100` or `cpu` (with `cpu_gflops`) as devices; other cards need memory and peak.

    Raises:
        UserError: a number missing or below 0, an unknown card without its figures.
    """
    for flag, value in (("gpu_memory_gb", memory_gb), ("gpu_tflops", tflops), ("cpu_gflops", cpu_gflops)):
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{flag} {value:g}: must be above 0")
    if text.strip().lower() == "cpu":
        if cpu_gflops is None:
            raise UserError(
                "--gpus cpu: its speed is not known; give --cpu_gflops, the GFLOP/s of a large float32 matrix product"
            )
        return Devices(1, "cpu", cpu_gflops / 1000, memory_gb)
    if cpu_gflops is not None:
        raise UserError("--cpu_gflops: has no effect without --gpus cpu; leave it out or give --gpu_tflops")
    match = re.fullmatch(r"(?:(\d+)\s*x\s*)?([A-Za-z].*)", text.strip())
    if match is None or match[1] == "0":
        raise UserError(f"--gpus {text}: must look like 1xH100-80GB or 8xA100-80GB, or be cpu")
    name = match[2].strip()
    known = _known(name, text)
    if known is None and (memory_gb is None or tflops is None):
        raise UserError(
            f"--gpus {text}: {name} is not in the table ({', '.join(CARDS)}); give --gpu_memory_gb and --gpu_tflops"
        )
    card = CARDS[known] if known else Card(0, 0)
    return Devices(int(match[1] or 1), known or name, tflops or card.tflops, memory_gb or card.memory_gb)


def _known(name: str, text: str) -> str | None:
    """The key of the table: case, dashes and, where it is no question, the memory may be left out."""
    wanted = _plain(name)
    found = [key for key in CARDS if wanted in (_plain(key), _plain(key.split("-")[0]))]
    if len(found) > 1:
        raise UserError(f"--gpus {text}: is made with different memories; give {' or '.join(found)}")
    return found[0] if found else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removesuffix("gb")
