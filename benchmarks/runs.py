"""Experiments of many runs over worker processes, each run kept on disk as soon as it is finished.

`runs.jsonl` in the output folder has one line per finished run: its name, its settings, what it gave. A run whose name
and settings are there is not done again, so a command that was interrupted goes on where it stopped, and a command
with more seeds adds to what there is. Runs with other settings stay in the file and are not used.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from transformers.utils import logging

from benchmarks.measuring import machine, progress
from benchmarks.pair_training import one_thread
from unveil.errors import UserError
from unveil.files import write_json

FILE = "runs.jsonl"

Job = Mapping[str, Any]
"""A name (objective, flip rate, seed, ...) and the settings of a run: plain values, ready for JSON."""
Record = dict[str, Any]


def experiment(name: str, args: argparse.Namespace, report: Callable[[], Record]) -> int:
    """Run `report`, which prints tables and gives the figures; write and print them as JSON. Returns the exit code.

    args: has `jobs` and `output_dir`.
    """
    started = time.perf_counter()
    logging.disable_progress_bar()
    if args.jobs == 1:
        one_thread()
    try:
        found = report()
    except UserError as error:
        print(f"benchmarks.{name}: error: {error}", file=sys.stderr)
        return 2
    found |= {"machine": machine(), "seconds": time.perf_counter() - started}
    write_json(args.output_dir / "results.json", found)
    print(json.dumps(found))
    return 0


def finished(folder: Path) -> list[Record]:
    """Records on disk; a line that was cut off by a crash is not one."""
    path = folder / FILE
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [record for record in records if isinstance(record, dict) and {"job", "result"} <= record.keys()]


def run_all(jobs: Sequence[Job], work: Callable[[Job], Record], folder: Path, workers: int) -> list[Record]:
    """What `work(job)` gives for every job, in their order: from disk where it is, else computed and written there.

    work: a function of a module, so that processes can import it; what it returns is ready for JSON. One worker works
    in this process.
    """
    if workers < 1:
        raise UserError(f"--jobs {workers}: at least 1 is needed")
    jobs = [_plain(job) for job in jobs]
    found = {_key(record["job"]): record["result"] for record in finished(folder)}
    todo = [job for job in jobs if _key(job) not in found]
    folder.mkdir(parents=True, exist_ok=True)
    if len(todo) < len(jobs):
        progress(f"{len(jobs) - len(todo)} of {len(jobs)} runs are in {folder / FILE}; {len(todo)} to do")
    started = time.perf_counter()
    for number, (job, result) in enumerate(_computed(todo, work, workers), start=1):
        _append(folder / FILE, {"job": job, "result": result})
        found[_key(job)] = result
        left = (time.perf_counter() - started) / number * (len(todo) - number) / 60
        name = ", ".join(f"{k} {v}" for k, v in job.items() if not isinstance(v, dict))
        progress(f"run {number}/{len(todo)}: {name}; about {left:.0f} min left")
    return [found[_key(job)] for job in jobs]


def _computed(jobs: Sequence[Job], work: Callable[[Job], Record], workers: int):
    """(job, result) as they come; at most `workers` at once."""
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield job, work(job)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the processes
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, one_thread) as pool:
        waiting: dict[Future[Record], Job] = {pool.submit(work, job): job for job in jobs}
        try:
            while waiting:
                for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(done), done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _append(path: Path, record: Record) -> None:
    """One line, on disk before this returns; it begins a new line if a crash left half of one."""
    data = (json.dumps(record, allow_nan=False) + "\n").encode("utf-8")
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                data = b"\n" + data
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _plain(job: Job) -> Job:
    return json.loads(json.dumps(job))


def _key(job: Job) -> str:
    return json.dumps(job, sort_keys=True)
