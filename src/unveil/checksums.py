"""What a folder must hold, byte for byte: a list of its files with sizes and SHA-256, written last.

A file that is missing, cut, changed or foreign is then named before anything is computed with it. Files are read at
1.5 GB/s and more on one core, several at a time.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from unveil.errors import UserError
from unveil.files import read_json, write_json

FILE = "checksums.json"
_PIECE = 2**22
_FORMAT = 1


def checksum(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    hashed = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            hashed.update(piece)
    return hashed.hexdigest()


def write_checksums(folder: Path, names: Iterable[str] | None = None, place: Path | None = None) -> None:
    """List the files of a folder (all, or those that are named) in `checksums.json` there, or in `place`."""
    found = sorted(_files_of(folder) if names is None else names)
    with ThreadPoolExecutor(_threads()) as pool:
        sums = list(pool.map(lambda name: checksum(folder / name), found))
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": sums[i]} for i, name in enumerate(found)}
    listed = {"format": _FORMAT, "files": files}
    write_json((place or folder) / FILE, listed | {"sha256_of_this": _own(files)})


def damage_of(folder: Path, foreign: bool = True) -> str | None:
    """What is wrong with the files that `checksums.json` lists, the first of them by name; None if they are as written.

    A folder without a list, of an earlier version, has no known damage: ask `has_checksums`.

    Args:
        folder: where the list is.
        foreign: whether a file that is not listed is damage; else it is none of ours.
    """
    if not has_checksums(folder):
        return None
    try:
        listed = _read(folder / FILE)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{FILE} is damaged"
    for name, known in listed.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        size = (folder / name).stat().st_size
        if size != known["bytes"]:
            return f"{name} is {'cut' if size < known['bytes'] else 'too long'} ({size} of {known['bytes']} bytes)"
    if foreign:
        others = [name for name in _files_of(folder) if name not in listed]
        if others:
            return f"{min(others)} does not belong there"
    with ThreadPoolExecutor(_threads()) as pool:
        sums = list(pool.map(lambda name: checksum(folder / name), listed))
    changed = [name for name, found in zip(listed, sums) if found != listed[name]["sha256"]]
    return f"{changed[0]} is not what was written" if changed else None


def has_checksums(folder: Path) -> bool:
    """Whether the folder lists its files; those of earlier versions do not."""
    return (folder / FILE).exists()


def require_as_written(folder: Path, where: str, remedy: str, foreign: bool = False) -> None:
    """Refuse a folder whose listed files are missing, cut or changed.

    Raises:
        UserError: `WHERE: NAME is ...; REMEDY`.
    """
    if damage := damage_of(folder, foreign):
        raise UserError(f"{where}: {damage}; {remedy}")


def _read(file: Path) -> dict[str, dict[str, Any]]:
    found = read_json(file)
    files: dict[str, dict[str, Any]] = found["files"]
    if found["format"] != _FORMAT or found["sha256_of_this"] != _own(files):
        raise ValueError("the list itself is not what was written")
    return files


def _own(files: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _files_of(folder: Path) -> list[str]:
    """All files below a folder, by their relative names; without the list itself and hidden ones."""
    paths = (Path(inside) / name for inside, _, names in os.walk(folder) for name in names)
    return [path.relative_to(folder).as_posix() for path in paths if path.name != FILE and path.name[0] != "."]


def _threads() -> int:
    return min(4, os.cpu_count() or 1)
