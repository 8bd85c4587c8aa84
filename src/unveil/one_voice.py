"""What every process of a run would say is said by one of them on each machine.

Processes of one run meet the same bad flag and the same odd row. The first that has something to say leaves a note, and
the others are silent; what happens to one of them alone is said by that one.
"""

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

# What launchers say of a process's number and of how many there are.
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")
SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_RUN = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
# Processes come to the same point within this time, in seconds; a later word is a new one.
_TOGETHER = 60.0
_KEPT = 3600.0


def is_said_here(text: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is to say a text: one of its run on this machine does.

    Where no note can be left, every process says it: rather twice than never.
    """
    rank = next((environment[name] for name in _RANKS if environment.get(name)), None)
    if rank is None or processes_of(environment) <= 1:
        return True
    # A launcher's processes have one parent, which is another one in the next run. Numbers may be of a process's rows.
    run = json.dumps([os.getppid(), [environment.get(name) for name in _RUN], re.sub(r"\d+", "#", text)])
    try:
        folder = _folder()
        return _first(folder / hashlib.sha256(run.encode(errors="replace")).hexdigest()[:32], rank)
    except OSError:
        return True


def processes_of(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes a launcher says that it started, 0 if there is none."""
    return max((int(environment[name]) for name in SIZES if environment.get(name, "").isdigit()), default=0)


def tell_launcher(text: str, environment: Mapping[str, str] = os.environ) -> None:
    """Leave an error where torchrun looks for the words of its last report."""
    file = environment.get("TORCHELASTIC_ERROR_FILE")
    if file:
        content = {"message": {"message": text, "extraInfo": {"timestamp": str(int(time.time()))}}}
        with suppress(OSError):
            Path(file).write_text(json.dumps(content), encoding="utf-8")


def _folder() -> Path:
    """A folder for notes that nobody else can write to."""
    owner = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"unveil-notes-{owner}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or (hasattr(os, "getuid") and (found.st_uid != owner or found.st_mode & 0o022)):
        raise PermissionError(f"{folder} is somebody else's")
    return folder


def _first(note: Path, rank: str) -> bool:
    """Whether nobody else has just left this note; it is left then, with the rank in it."""
    try:
        handle = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if note.read_text() != rank and time.time() - note.stat().st_mtime < _TOGETHER:
            return False
        note.write_text(rank)
        return True
    with os.fdopen(handle, "w") as opened:
        opened.write(rank)
    for old in note.parent.iterdir():
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _KEPT:
                old.unlink()
    return True
