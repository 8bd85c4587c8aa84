"""What will a run cost? Tokens, operations, memory and hours from a configuration and the lengths of the data alone."""

from unveil.planning.answers import Answers, Rows, quantiles
from unveil.planning.cost import Fit, Passes, fit, hours, published_flops, run_flops
from unveil.planning.flops import NOTHING, Flops, Work, backward, forward, padded, recomputed
from unveil.planning.hardware import CARDS, Card, Devices, devices
from unveil.planning.memory import (
    Memory,
    Method,
    Precision,
    checkpoint_bytes_per_token,
    fused_bytes_per_token,
    peak_memory,
    saved_bytes_per_token,
    static_memory,
)
from unveil.planning.schedule import Batching, Schedule, largest_device_batch, play, steps_of
from unveil.planning.shape import Adapters, Linear, Shape

__all__ = [
    "CARDS",
    "NOTHING",
    "Adapters",
    "Answers",
    "Batching",
    "Card",
    "Devices",
    "Fit",
    "Flops",
    "Linear",
    "Memory",
    "Method",
    "Passes",
    "Precision",
    "Rows",
    "Schedule",
    "Shape",
    "Work",
    "backward",
    "checkpoint_bytes_per_token",
    "devices",
    "fit",
    "forward",
    "fused_bytes_per_token",
    "hours",
    "largest_device_batch",
    "padded",
    "peak_memory",
    "play",
    "published_flops",
    "quantiles",
    "recomputed",
    "run_flops",
    "saved_bytes_per_token",
    "static_memory",
    "steps_of",
]
