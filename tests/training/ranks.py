"""Runs a script as several processes on this machine, one per rank, without a launcher."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def run_ranks(worker: Path, processes: int, *arguments: object, timeout: int = 280) -> list[str]:
    """Run `python worker arguments` once per rank (gloo); returns what each printed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    if processes > 1:
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
        shared["LOCAL_WORLD_SIZE"] = str(processes)
    running = []
    for rank in range(processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        command = [sys.executable, str(worker), *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        running.append(subprocess.Popen(command, env=shared | own, **pipes))  # type: ignore[call-overload]
    try:
        found = [process.communicate(timeout=timeout)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    failed = [f"rank {i}: {found[i][-3000:]}" for i, process in enumerate(running) if process.returncode]
    assert not failed, "\n".join(failed)
    return found
