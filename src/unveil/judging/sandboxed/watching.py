"""A hook inside Python that refuses what the sandbox does not allow, and tells what was tried.

A program that knows of it gets round it: the kernel's layers hold, this one gives reasons.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

_PROCESSES = frozenset(
    {"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec", "os.spawn", "subprocess.Popen"}
)
_NETWORK = frozenset({"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"})
_CHANGES = frozenset(
    {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
     "os.utime", "shutil.rmtree", "os.setxattr"}
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def watch(folder: str, layers: list[str], tell: Callable[[str], None]) -> None:
    """Refuse what the sandbox does not allow, with a reason that `tell` passes on; cannot be undone."""
    inside = os.path.join(os.path.realpath(folder), "")
    writable = "tmpfs" in layers
    kernel = "seccomp" in layers and not {"landlock", "bubblewrap", "read-only files"}.isdisjoint(layers)
    own = os.getpid()

    def outside(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        name = os.path.realpath(os.fsdecode(path))
        return name != "/dev/null" and not (writable and name.startswith(inside))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        what = None
        if event in _PROCESSES:
            what = "start a process"
        elif event in _NETWORK or (event == "socket.__new__" and arguments[1] != 1):  # 1: AF_UNIX
            what = "use the network"
        elif event == "open" and arguments[2] is not None and arguments[2] & _WRITING and outside(arguments[0]):
            what = f"write {os.fsdecode(arguments[0])!r}, outside its folder"
        elif event in _CHANGES and any(outside(path) for path in arguments[:2]):
            what = "change files outside its folder"
        elif event == "os.kill" and arguments[0] != own:
            what = "signal another process"
        elif event.startswith("ctypes.dl") and not kernel:
            what = "call foreign code"
        if what:
            tell(what)
            raise PermissionError(f"sandbox: the program tried to {what}")

    sys.addaudithook(hook)
