"""Keeping what was freed: glibc returns every large tensor to the system, which clears its pages anew for the next."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
_KEPT, _FROM_HEAP = (1 << 31) - 1, 1 << 30


def keep_freed_memory() -> bool:
    """Let this process keep up to 2 GiB of freed memory for its next tensors, those above 1 GiB excepted.

    Returns whether it will. Left alone: other allocators and systems, and whoever set `MALLOC_*_` or `GLIBC_TUNABLES`.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ) or not sys.platform.startswith(
        "linux"
    ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return mallopt(_MMAP_THRESHOLD, _FROM_HEAP) == 1 and mallopt(_TRIM_THRESHOLD, _KEPT) == 1
