"""Nothing is written half and nothing that is whole is lost: not to a kill, not to a power cut.

Every artefact is written under a temporary name beside its place, forced to the disk, renamed, and the rename is forced
to the disk too. What grows line by line is only appended to; a last line that was cut off is found and dropped. Files
get the mode that the umask gives them, whoever wrote them.
"""

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unveil.errors import UserError

# Beside the place of a folder: its earlier content, for the moment in which the new one takes its place.
_ASIDE = ".replaced"
_GONE = ".removed"
_NO_SYNC_THERE = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES, errno.EISDIR)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, also one after a power cut, sees the old file or the whole new one.

    What is there and is no regular file (a device, a pipe) is written to, and stays.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    if path.exists() and not path.is_file() and not path.is_dir():
        with open(path, "wb") as file:
            file.write(data)
        return
    make_folder(path.parent)
    temporary = _beside(path)
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename or temporary) == str(temporary):
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically. Half a character is written as its escape, which in JSON means the same."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any) -> None:
    """Write indented JSON atomically; a NaN is an error, since no JSON reader accepts it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """What a JSON file holds; raises ValueError, for whatever is wrong with it, or OSError."""
    try:
        return json.loads(Path(path).read_bytes())
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def append_text(path: str | Path, text: str, sync: bool = True) -> None:
    """Append whole lines; a write that fails (a full disk) is taken back, so that no half line stays.

    sync: force them to the disk before returning.
    """
    path = Path(path)
    make_folder(path.parent)
    with open(path, "ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        left = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            while left:
                left = left[file.write(left) or 0 :]
            if sync:
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                file.truncate(before)
            error.filename = error.filename or str(path)
            raise
    if sync and not before:
        sync_folder(path.parent)


def read_whole_lines(path: str | Path, mend: bool = False) -> tuple[list[bytes], bool]:
    """The whole lines of a file, without their ends, and whether a last one without an end (a kill) was left out.

    mend: cut the half line off, so that what is appended next starts a line of its own.
    """
    data = Path(path).read_bytes()
    whole, _, torn = data.rpartition(b"\n")
    if torn and mend:
        with open(path, "rb+") as file:
            file.truncate(len(data) - len(torn))
            os.fsync(file.fileno())
    return (whole.split(b"\n") if whole else []), bool(torn)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each entry forced to the disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        sync_folder(folder.parent)


def sync_file(path: str | Path) -> None:
    """Force a file that something else wrote to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: str | Path) -> None:
    """Force the names in a folder to the disk, where its file system can."""
    try:
        sync_file(path)
    except OSError as error:
        if error.errno not in _NO_SYNC_THERE:
            raise


def sync_tree(folder: Path) -> None:
    """Force everything below a folder to the disk: files, names, and its own name."""
    for inside, _, names in os.walk(folder):
        for name in names:
            sync_file(os.path.join(inside, name))
        sync_folder(inside)
    sync_folder(folder.parent)


def obey_umask(folder: Path) -> None:
    """Give the files in a folder the mode that the umask says: safetensors and temporary files are made for their
    owner only."""
    mode = 0o666 & ~_umask()
    for inside, _, names in os.walk(folder):
        for name in names:
            place = os.path.join(inside, name)
            if not os.path.islink(place) and os.stat(place).st_mode & 0o666 != mode:
                os.chmod(place, mode)


@contextmanager
def replace_folder(path: str | Path) -> Iterator[Path]:
    """Fill a temporary folder; on success it takes the place of `path`, on failure it disappears."""
    path = Path(os.path.realpath(path))
    make_folder(path.parent)
    recover_folder(path)
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        publish_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def publish_folder(made: Path, place: Path) -> None:
    """Let a finished folder take its place, on the disk too; what stood there goes only when the new one stands.

    A process that dies in between leaves the earlier content beside the place, where `recover_folder` finds it.
    """
    obey_umask(made)
    sync_tree(made)
    aside = _aside(place)
    recover_folder(place)
    if place.exists():
        os.rename(place, aside)
    os.rename(made, place)
    sync_folder(place.parent)
    if made.parent != place.parent:
        sync_folder(made.parent)
    if aside.exists():
        shutil.rmtree(aside, ignore_errors=True)


def recover_folder(place: Path) -> None:
    """Undo or finish what a process that died in `publish_folder` has left."""
    aside = _aside(place)
    if not aside.exists():
        return
    if place.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):  # another rank was faster
            os.rename(aside, place)
            sync_folder(place.parent)


def recover_folders(folder: Path) -> None:
    """`recover_folder` for all that is directly in a folder, and the end of what `remove_folder` began."""
    for aside in folder.glob(f".*{_ASIDE}"):
        recover_folder(folder / aside.name[1 : -len(_ASIDE)])
    for gone in folder.glob(f".*{_GONE}"):
        shutil.rmtree(gone, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder so that nobody ever takes what is left of it for the whole."""
    path = Path(os.path.abspath(path))
    gone = path.with_name(f".{path.name}{_GONE}")
    shutil.rmtree(gone, ignore_errors=True)
    os.rename(path, gone)
    shutil.rmtree(gone, ignore_errors=True)


def require_empty(path: str | Path, overwrite: bool, flag: str = "--output_dir") -> None:
    """Refuse an output folder that holds something, unless the user said that it may go, and a place for none."""
    path = Path(path)
    require_place_for_folder(path, flag)
    if path.is_dir() and not overwrite and any(not entry.name.endswith(LOCK) for entry in path.iterdir()):
        raise UserError(f"{flag} {path}: the folder is not empty; give --overwrite or another folder")


LOCK = ".unveil.lock"
"""The end of a lock file's name (`unveil.locks`), which is no content of a folder."""


def require_place_for_folder(path: str | Path, flag: str = "--output_dir") -> None:
    """Refuse a place where no folder can be, or in whose folder nothing can be written. Makes nothing."""
    path = Path(path)
    if _stands(path, flag) and not path.is_dir():
        raise UserError(f"{flag} {path}: is a file, a folder is needed; give another name")
    _require_writable(path, flag)


def require_place_for_file(path: str | Path, flag: str = "--output_file") -> None:
    """Refuse a place where no file can be written. Makes nothing."""
    path = Path(path)
    if _stands(path, flag):
        if path.is_dir():
            raise UserError(f"{flag} {path}: is a folder, a file is needed; give another name")
        if not path.is_file():
            raise UserError(f"{flag} {path}: is no regular file and cannot be replaced; give the name of a file")
    place = Path(os.path.realpath(path)) if path.is_symlink() else path
    _require_writable(place.parent, flag, path)


def _stands(path: Path, flag: str) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{flag} {str(path)[:80]}: cannot be used ({reason}); give another name") from error
    return True


def _require_writable(folder: Path, flag: str, shown: Path | None = None) -> None:
    """That something can be made in a folder, or, where it does not exist, in the next one above that does."""
    above = next(one for one in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(one))
    if not above.is_dir():
        what = "is no folder" if above.exists() else "is a link to nothing"
        raise UserError(f"{flag} {shown or folder}: nothing can be made there, {above} {what}; give another name")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {shown or folder}: nothing can be written in {above}; give another name")


def _beside(path: Path) -> Path:
    """A hidden name of its own in the same folder; long names are cut, to leave room."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")


def _aside(path: Path) -> Path:
    path = Path(os.path.abspath(path))  # `.` and `..` have names too
    return path.with_name(f".{path.name}{_ASIDE}") if path.name else path / _ASIDE


def _umask() -> int:
    """Of this process; where the system tells it, without the moment in which it is another one."""
    with suppress(OSError, StopIteration):
        status = Path("/proc/self/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("Umask:")).split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
