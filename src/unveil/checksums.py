"""What a folder must hold, byte for byte: a list of its files with sizes and SHA-256, written last.

A file that is missing, cut, changed or foreign is then named before anything is computed with it. Files are read at
1.5 GB/s and more on one core, several at a time.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from unveil.errors import UserError
from unveil.files import read_json, write_json

FILE = "checksums.json"
SEAL = "checksum"
_SEAL_DIGITS = 16
_PIECE = 2**22
_FORMAT = 1
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)


def checksum(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    hashed = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            hashed.update(piece)
    return hashed.hexdigest()


def write_checksums(folder: Path, files: Mapping[str, Path] | None = None) -> None:
    """List files in `folder / "checksums.json"`: all that is in the folder, or `files` by the names that they will
    have there."""
    files = {name: folder / name for name in _files_of(folder)} if files is None else files
    names = sorted(files)
    with ThreadPoolExecutor(_threads()) as pool:
        sums = list(pool.map(lambda name: checksum(files[name]), names))
    _write(folder, {name: {"bytes": files[name].stat().st_size, "sha256": sums[i]} for i, name in enumerate(names)})


def unlist(folder: Path, name: str) -> None:
    """Take a file that is going to change out of the list, where there is one."""
    try:
        listed = _read(folder / FILE)
    except (OSError, *_UNREADABLE):
        return
    if name in listed:
        _write(folder, {other: known for other, known in listed.items() if other != name})


def damage_of(folder: Path, only: Iterable[str] | None = None, foreign: bool = False) -> str | None:
    """What is wrong with the files that `checksums.json` lists, the first of them by name; None if they are as written.

    A folder without a list, of an earlier version, has no known damage: ask `has_checksums`.

    Args:
        folder: where the list is.
        only: patterns of the names to look at; unset: all.
        foreign: whether a file that is not listed is damage (with `only`: one of these names in the folder itself);
            else it is none of ours.
    """
    only = None if only is None else tuple(only)
    if not has_checksums(folder):
        return None
    try:
        listed = _read(folder / FILE)
    except (OSError, *_UNREADABLE):
        return f"{FILE} is damaged"
    wanted = [name for name in listed if _matches(name, only)]
    for name in wanted:
        if not (folder / name).is_file():
            return f"{name} is missing"
        size, known = (folder / name).stat().st_size, listed[name]["bytes"]
        if size != known:
            return f"{name} is {'cut' if size < known else 'too long'} ({size} of {known} bytes)"
    there = _files_of(folder) if only is None else [path.name for path in folder.iterdir() if path.is_file()]
    others = [name for name in there if name not in listed and name != FILE and _matches(name, only)]
    if foreign and others:
        return f"{min(others)} does not belong there"
    with ThreadPoolExecutor(_threads()) as pool:
        sums = list(pool.map(lambda name: checksum(folder / name), wanted))
    changed = [name for name, found in zip(wanted, sums) if found != listed[name]["sha256"]]
    return f"{changed[0]} is not what was written" if changed else None


def state_of(folder: Path) -> list[tuple[Any, ...]]:
    """What tells, without reading anything, whether all in a folder is as it was when it was looked at."""
    found = [(path.name, path.stat() if path.is_file() else path.lstat()) for path in folder.iterdir()]
    return sorted((name, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns) for name, at in found)


def has_checksums(folder: Path) -> bool:
    """Whether the folder lists its files; those of earlier versions do not."""
    return (folder / FILE).exists()


def require_as_written(
    folder: Path, where: str, remedy: str, only: Iterable[str] | None = None, foreign: bool = False
) -> None:
    """Refuse a folder of which a listed file (`only` those of these patterns) is missing, cut or changed.

    foreign: or in which there are others that match.

    Raises:
        UserError: `WHERE: NAME is ...; REMEDY`.
    """
    if damage := damage_of(folder, only, foreign):
        raise UserError(f"{where}: {damage}; {remedy}")


def sealed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a file that grows line by line, with a checksum of what it says."""
    return {**row, SEAL: _own(row)[:_SEAL_DIGITS]}


def opened(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without its checksum; one without any, as earlier versions wrote them, is taken as it is.

    Raises:
        ValueError: it does not say what was written.
    """
    found = {name: value for name, value in row.items() if name != SEAL}
    if SEAL in row and row[SEAL] != _own(found)[:_SEAL_DIGITS]:
        raise ValueError("is not what was written")
    return found


def _matches(name: str, only: Iterable[str] | None) -> bool:
    return only is None or any(fnmatch(name, pattern) for pattern in only)


def _write(folder: Path, files: Mapping[str, Any]) -> None:
    write_json(folder / FILE, {"format": _FORMAT, "files": files, "sha256_of_this": _own(files)})


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
