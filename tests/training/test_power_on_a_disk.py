"""A training on a real file system loses power: what its disk held at that moment goes on bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from unveil.checksums import damage_of
from unveil.demo.base import shipped_folder
from unveil.training.checkpoint import checkpoints_in

STEPS = 60


def _mounted(image: Path, place: Path) -> bool:
    place.mkdir()
    return subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """ext4 in a file, mounted at `disk`; the file is `disk.img`."""
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    with open(image, "wb") as file:
        file.truncate(400 * 2**20)
    made = shutil.which("mkfs.ext4") and os.geteuid() == 0
    if not made or subprocess.run(["mkfs.ext4", "-q", image], check=False).returncode or not _mounted(image, place):
        pytest.skip("needs root, mkfs.ext4 and a loop device")
    yield place
    for mounted in (tmp_path / "after", place):
        if os.path.ismount(mounted):
            subprocess.run(["umount", mounted], check=True)


def command(rows: Path, output: Path, *words: object) -> list[str]:
    flags = (
        "--model_name_or_path", shipped_folder(), "--dataset_name", rows, "--output_dir", output, "--max_steps", STEPS,
        "--per_device_train_batch_size", 4, "--num_draws", 2, "--learning_rate", 1e-3, "--seed", 3,
        "--logging_steps", 1, "--use_cpu", *words,
    )  # fmt: skip
    return [sys.executable, "-m", "unveil.cli.main", "train", *map(str, flags)]


@pytest.mark.slow
def test_the_last_whole_checkpoint_on_a_disk_that_lost_power_resumes_bit_for_bit(disk, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(f'{{"prompt": "p", "completion": " {i % 5}", "label": {str(i % 2 > 0).lower()}}}\n' for i in range(24))
    )
    saving = ("--save_strategy", "steps", "--save_steps", 10, "--save_total_limit", 1)
    with open(tmp_path / "log", "wb") as log:
        training = subprocess.Popen(command(rows, disk / "run", *saving), stdout=log, stderr=log)
    try:
        end = time.monotonic() + 300
        while max(checkpoints_in(disk / "run"), default=0) < 30 and time.monotonic() < end:
            assert training.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        training.send_signal(signal.SIGSTOP)
        published = max(checkpoints_in(disk / "run"))
        shutil.copyfile(tmp_path / "disk.img", tmp_path / "after.img")  # what was not forced to the disk is not in it
    finally:
        training.kill()
        training.wait()
    assert _mounted(tmp_path / "after.img", tmp_path / "after")
    back = tmp_path / "back"
    shutil.copytree(tmp_path / "after" / "run", back)
    found = checkpoints_in(back)
    assert max(found) == published
    assert damage_of(found[published], foreign=True) is None
    for output, words in ((tmp_path / "whole", ()), (back, ("--resume_from_checkpoint", True))):
        done = subprocess.run(
            command(rows, output, "--save_strategy", "no", *words), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert (back / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
