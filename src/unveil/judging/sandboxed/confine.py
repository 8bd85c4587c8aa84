"""Giving up rights, as far as the kernel allows; nothing of it can be taken back."""

import contextlib
import ctypes
import os
import resource
import signal
import struct
from typing import Any

from syscalls import filter_system_calls as filter_system_calls  # pyright: ignore[reportMissingImports]

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_NS, _NEW_UTS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_MEBIBYTE = 1 << 20
_DEVICES = ("/dev/zero", "/dev/random", "/dev/urandom")
# What a program must be kept from, and the layers of which one is needed for it.
MINIMUM = {
    # Files that are read-only still have devices and pipes among them, and all of them can be read.
    "write outside its folder": ("bubblewrap", "landlock"),
    "read files of its user": ("bubblewrap", "landlock"),
    "use the network": ("bubblewrap", "namespaces", "seccomp"),
    "reach other processes": ("seccomp",),
    "read the environment of its judge": ("bubblewrap", "process namespace", "landlock"),
    "outlive its judge": ("parent death",),
}


def missing(layers: list[str]) -> list[str]:
    """What a program could do under these layers that it must not."""
    return [harm for harm, holding in MINIMUM.items() if not set(holding) & set(layers)]


def limit(limits: dict[str, Any]) -> None:
    """Processor time, memory, size of files, open files, no core dumps."""
    memory, file_size = limits["memory_mib"] * _MEBIBYTE, limits["file_mib"] * _MEBIBYTE
    seconds = max(1, round(limits["seconds"]))
    for what, soft, wanted in (
        (resource.RLIMIT_CPU, seconds, seconds + 1),  # a signal, then the end
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_FSIZE, file_size, file_size),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        _, hard = resource.getrlimit(what)
        cap = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(what, (min(soft, cap), cap))


def die_with(parent: int | None) -> bool:
    """End when the parent does, however it ends; at once if it has already. None: whoever it is."""
    held = _LIBC.prctl(1, signal.SIGKILL, 0, 0, 0) == 0  # PR_SET_PDEATHSIG
    if parent is not None and os.getppid() != parent:
        os._exit(1)
    return held


def isolate(folder: str, limits: dict[str, Any]) -> list[str]:
    """Namespaces of our own: processes, network, mounts (read-only but for a small folder in memory), users.

    Goes on in a child, the first process of its namespace; the caller's process waits for it and ends as it does.
    """
    flags = _NEW_USER | _NEW_NS | _NEW_NET | _NEW_IPC | _NEW_UTS
    user, group = os.getuid(), os.getgid()
    own_processes = _LIBC.unshare(flags | _NEW_PID) == 0
    if not own_processes and _LIBC.unshare(flags) != 0:
        return []
    with contextlib.suppress(OSError):  # cut off all the same, as nobody
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    layers = ["namespaces"]
    _LIBC.mount(b"none", b"/", None, 0x4000 | 0x40000, None)  # MS_REC | MS_PRIVATE
    read_only = struct.pack("QQQQ", 1, 0, 0, 0)  # MOUNT_ATTR_RDONLY
    if _LIBC.syscall(442, -100, b"/", 0x8000, read_only, ctypes.c_size_t(32)) == 0:  # mount_setattr, AT_RECURSIVE
        layers.append("read-only files")
    if small_folder(folder, limits):
        layers.append("tmpfs")
    if own_processes:
        _go_on_in_a_child()
        # Other processes are not to be seen; where their list cannot be mounted anew, an empty folder hides the old.
        if (
            _LIBC.mount(b"proc", b"/proc", b"proc", 0xF, None) == 0
            or _LIBC.mount(b"tmpfs", b"/proc", b"tmpfs", 1, None) == 0
        ):
            layers.append("process namespace")
    return layers


def small_folder(folder: str, limits: dict[str, Any]) -> bool:
    """Put a file system in memory there, with few files of little size: the kernel's memory for names is not ours."""
    options = f"size={limits['file_mib']}m,nr_inodes=256".encode()
    return _LIBC.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, options) == 0


def _go_on_in_a_child() -> None:
    """Fork; the parent keeps nothing open, waits, and ends as the child does."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)
        if os.getppid() not in (0, parent):  # 0: the parent is outside of our namespace
            os._exit(1)
        return
    os.closerange(3, 256)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(code)


def drop_capabilities() -> None:
    """None in this process and none to come, root's neither."""
    _LIBC.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    for number in range(64):
        if _LIBC.prctl(24, number, 0, 0, 0) != 0:  # PR_CAPBSET_DROP
            break
    _LIBC.prctl(47, 4, 0, 0, 0)  # PR_CAP_AMBIENT_CLEAR_ALL
    call = {"x86_64": 126, "aarch64": 91}.get(os.uname().machine)
    if call is not None:
        _LIBC.syscall(call, struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0] * 6))  # capset


def hide_memory() -> None:
    """Nobody may trace this process or read its memory."""
    _LIBC.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def landlock(writable: str | None, readable: list[str]) -> bool:
    """Reading only `readable`, writing only in `writable` and to /dev/null; from version 4 no TCP, from 6 no signals.

    Each call makes a domain inside the last one; a process traces nobody outside of its own.
    """
    version = _LIBC.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    write, read_file, read_folder = 1 << 1, 1 << 2, 1 << 3
    make = sum(1 << bit for bit in range(4, 13))
    truncate = 1 << 14 if version >= 3 else 0
    handled = write | read_file | read_folder | make | truncate | (1 << 13 if version >= 2 else 0)
    rules = struct.pack("QQQ", handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _LIBC.syscall(444, rules, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    places = [(path, read_file | read_folder) for path in readable] + [(path, read_file) for path in _DEVICES]
    places.append(("/dev/null", write | truncate | read_file))
    if writable:
        places.append((writable, handled))
    for path, allowed in places:
        with contextlib.suppress(OSError):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            if not os.path.isdir(path):
                allowed &= write | read_file | truncate
            _LIBC.syscall(445, ruleset, ctypes.c_int(1), struct.pack("=Qi", allowed, place), ctypes.c_uint32(0))
            os.close(place)
    held = _LIBC.syscall(446, ruleset, ctypes.c_uint32(0)) == 0
    os.close(ruleset)
    return held


def forbid_processes() -> None:
    """No process more for this user, as far as limits hold for it."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
