"""Freed memory is kept for the next tensor where glibc allows it."""

import os
import subprocess
import sys

import pytest

MEASURE = """
import resource, sys
import torch
from unveil.host_memory import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("not here")

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.zeros(8 << 20).add_(1)  # 32 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(10)  # until the heap has found its shape
print(faults(10))
"""


def faults(mode, **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, mode], env=clean | env, capture_output=True, text=True, check=False, timeout=120
    )
    if done.stderr.strip() == "not here":
        pytest.skip("no glibc allocator")
    return int(done.stdout)


def test_a_tensor_reuses_the_pages_of_the_one_before_it():
    by_default = faults("leave")
    if by_default < 1000:
        pytest.skip("this system gives large pages, or keeps them")
    assert faults("keep") < by_default / 100


def test_whoever_tuned_the_allocator_is_left_alone(monkeypatch):
    from unveil.host_memory import keep_freed_memory

    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert keep_freed_memory() is False
