"""What a program in the sandbox sees of the files: Python and its libraries; bubblewrap shows it nothing else."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/etc/ld.so.cache", "/etc/ld.so.conf",
    "/etc/ld.so.conf.d", "/etc/localtime", "/etc/alternatives", "/etc/mime.types",
)  # fmt: skip

_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


@functools.cache
def readable_places() -> list[str]:
    """Files and folders that Python needs, none of them inside another."""
    python = Path(sys.executable)
    wanted = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, Path(__file__).with_name("sandboxed")]
    wanted += [python, python.resolve(), *_SYSTEM, *os.environ.get("LD_LIBRARY_PATH", "").split(":")]
    found = {os.path.abspath(place) for place in map(str, wanted) if place and os.path.exists(place)}
    found |= {os.path.realpath(place) for place in found}
    return sorted(place for place in found if not any(str(above) in found for above in Path(place).parents))


def bubblewrap(folder: str, file_mib: int) -> list[str]:
    """The command that starts others inside bubblewrap: own processes, network, users, messages and files.

    What it starts may mount, until it drops the right to (where bubblewrap gives it). Empty where bubblewrap is not
    installed or the system does not let it work.
    """
    for rights in (("--cap-add", "CAP_SYS_ADMIN"), ()):
        if _works(rights):
            return _command(folder, file_mib, rights)
    return []


@functools.cache
def _works(rights: tuple[str, ...]) -> bool:
    place = os.path.realpath("/tmp")
    command = _command(f"{place}/unveil-sandbox", 1, rights)
    if not command:
        return False
    try:
        tried = subprocess.run(
            [*command, sys.executable, "-I", "-S", "-c", ""],
            stdin=subprocess.DEVNULL, capture_output=True, env={}, timeout=60, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return False
    return tried.returncode == 0


def _command(folder: str, file_mib: int, rights: tuple[str, ...]) -> list[str]:
    program = shutil.which("bwrap")
    if program is None:
        return []
    devices = [word for place in _DEVICES for word in ("--dev-bind", place, place)]
    seen = [word for place in readable_places() for word in ("--ro-bind", os.path.realpath(place), place)]
    return [
        program, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", *rights, *seen, *devices,
        "--size", str(file_mib << 20), "--tmpfs", folder, "--remount-ro", "/", "--",
    ]  # fmt: skip
