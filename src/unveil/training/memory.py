"""Out of memory, told for people: which flag to lower, and the smallest pack that fits."""

import contextlib
from collections.abc import Iterator, Sequence

import torch

from unveil.errors import UserError, warn_user
from unveil.likelihood import PackedRows

# What PyTorch says on the CPU, where it raises a plain RuntimeError.
_CPU_MESSAGE = "not enough memory"


@contextlib.contextmanager
def told_when_out_of_memory(tokens_per_batch: int, packed: Sequence[PackedRows]) -> Iterator[None]:
    """Turn an allocation failure into a `UserError` that names `--tokens_per_batch` and the longest row."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and _CPU_MESSAGE not in str(error):
            raise
        longest = max((length for part in packed for length in part.segment_lengths), default=0)
        raise UserError(_advice(tokens_per_batch, longest)) from error


def _advice(tokens_per_batch: int, longest: int) -> str:
    start = f"--tokens_per_batch {tokens_per_batch}: out of memory"
    if longest < tokens_per_batch:
        return (
            f"{start}; lower it (the longest row of this step has {longest} tokens: a pack of that size is the "
            "smallest without recomputation, smaller ones recompute activations), or give --kept_tokens 0"
        )
    return (
        f"{start} on a row of {longest} tokens, which is already alone in its pack and recomputes its activations; "
        "shorten the rows with --max_length, or use --use_peft or sharded weights"
    )


def warn_of_rows_beyond(tokens_per_batch: int, longest: int) -> None:
    """Say that rows longer than a pack run alone."""
    warn_user(
        f"--tokens_per_batch {tokens_per_batch}: a row has {longest} tokens; such rows run alone and recompute their "
        f"activations, {longest} or more would not (told once)"
    )
