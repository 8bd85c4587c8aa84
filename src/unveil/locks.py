"""One process in an output folder, or on one file, at a time: the second is refused and told who is there.

The lock is the system's (`flock`, which Linux carries over NFS too): it dies with its process, however that ends, and a
lock file that a kill left behind holds nobody up. The file says who holds it.
"""

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unveil.errors import UserError, warn_user
from unveil.files import LOCK, require_place_for_file, require_place_for_folder

try:
    import fcntl
except ImportError:  # no such thing on this system
    fcntl = None

_BUSY = (errno.EWOULDBLOCK, errno.EACCES)
_claims: list["Claim"] = []


class Claim:
    """A lock that is held until `release`, or until the process ends.

    Args:
        file: the lock file.
        what: what is claimed, for the message of a refusal.
    """

    def __init__(self, file: Path, what: str) -> None:
        self.file = file
        self._made = [folder for folder in file.parents if not folder.exists()]
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._handle = _locked(file, what)
        except BaseException:
            self._remove_what_is_empty()
            raise
        _claims.append(self)

    def release(self) -> None:
        """Let others in; folders that were made for the claim and got no content disappear."""
        if self in _claims:
            _claims.remove(self)
            with suppress(OSError):
                self.file.unlink()  # while it is held: who opened it meanwhile sees that it is gone and tries again
            os.close(self._handle)
            self._remove_what_is_empty()

    def _remove_what_is_empty(self) -> None:
        with suppress(OSError):
            for folder in self._made:
                folder.rmdir()


def claim_folder(folder: str | Path, flag: str = "--output_dir", beside: bool = False) -> Claim:
    """Keep other processes out of an output folder, which is made if it is not there.

    beside: the lock stands beside the folder, which is replaced as a whole and not made yet.

    Raises:
        UserError: another process is in it (named by pid and host), or no folder can be there.
    """
    require_place_for_folder(folder, flag)
    place = Path(os.path.realpath(folder))
    return Claim(_beside(place) if beside else place / LOCK, f"{flag} {folder}")


def claim_file(file: str | Path, flag: str = "--output_file") -> Claim:
    """Keep other processes from writing a file; raises as `claim_folder`."""
    require_place_for_file(file, flag)
    return Claim(_beside(Path(os.path.realpath(file))), f"{flag} {file}")


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name[:200]}{LOCK}")


@contextmanager
def claimed(folder: str | Path, flag: str = "--output_dir", beside: bool = False) -> Iterator[None]:
    """`claim_folder` for the length of a block."""
    claim = claim_folder(folder, flag, beside)
    try:
        yield
    finally:
        claim.release()


@contextmanager
def claims_end_here() -> Iterator[None]:
    """Release, at the end, what was claimed inside."""
    before = list(_claims)
    try:
        yield
    finally:
        for claim in reversed([claim for claim in _claims if claim not in before]):
            claim.release()


def _locked(file: Path, what: str) -> int:
    """An open handle of the lock file, locked, with this process's name in it."""
    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UserError(f"{what}: cannot be written ({error.strerror}); give another name") from error
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.exists(file) or os.fstat(handle).st_ino != os.stat(file).st_ino:
                os.close(handle)  # its holder has just removed it
                continue
        except OSError as error:
            if error.errno in _BUSY:
                holder = _holder(handle)
                os.close(handle)
                raise UserError(
                    f"{what}: {holder} is writing there; wait until it has ended, or give another name"
                ) from None
            warn_user(
                f"{what}: this file system has no locks ({error.strerror}); let no other process write there meanwhile"
            )
        _sign(handle)
        return handle


def _sign(handle: int) -> None:
    words = " ".join(["unveil", *sys.argv[1:2]])
    signature = {"pid": os.getpid(), "host": socket.gethostname(), "command": words, "since": time.strftime("%H:%M:%S")}
    with suppress(OSError):  # on a full disk the lock holds without a name
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(signature).encode(), 0)


def _holder(handle: int) -> str:
    try:
        found = json.loads(os.pread(handle, 4096, 0))
        pid, host = int(found["pid"]), str(found["host"])
        if pid == os.getpid() and host == socket.gethostname():
            return f"this process ({pid} on {host}) already"
        return f"process {pid} on {host} ({found['command']}, since {found['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
