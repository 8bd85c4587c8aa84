"""Runs inside the sandbox's own process: gives up rights, then runs a program and its tests.

A file of its own, started as a script, that imports nothing but the standard library. What is given up, as far as the
kernel allows (`unshare`: own network, mounts, user; `tmpfs`: a small folder in memory to write in; `landlock`: no
writing elsewhere, no TCP; `seccomp`: no processes, sockets, signals to others, changed rights), cannot be taken back.
`audit`, a hook of Python's, holds where the kernel does not help, and gives the reasons.
"""

import contextlib
import ctypes
import json
import os
import platform
import resource
import struct
import sys
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_NS, _NEW_IPC, _NEW_USER, _NEW_NET = 0x00020000, 0x08000000, 0x10000000, 0x40000000
_MEBIBYTE = 1 << 20


def limit(limits: dict[str, Any]) -> None:
    """Processor time, memory, size of files, open files, no core dumps."""
    memory, file_size = limits["memory_mib"] * _MEBIBYTE, limits["file_mib"] * _MEBIBYTE
    seconds = max(1, round(limits["seconds"]))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # a signal, then the end
    for what, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def confine(folder: str, limits: dict[str, Any]) -> list[str]:
    """Give up what is not needed; the names of the layers that hold."""
    layers, without = [], limits["without"]
    if "unshare" not in without and _unshare():
        layers.append("unshare")
        options = f"size={limits['file_mib']}m,nr_inodes=256".encode()
        if _LIBC.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, options) == 0:
            layers.append("tmpfs")
    os.chdir(folder)
    _LIBC.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if "landlock" not in without and _landlock(folder if "tmpfs" in layers else None):
        layers.append("landlock")
    if "seccomp" not in without and _seccomp():
        layers.append("seccomp")
    else:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    return layers


def _unshare() -> bool:
    user, group = os.getuid(), os.getgid()
    if _LIBC.unshare(_NEW_USER | _NEW_NS | _NEW_NET | _NEW_IPC) != 0:
        return False
    try:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError:
        return True  # cut off all the same, as nobody
    return True


def _landlock(folder: str | None) -> bool:
    """Writing only in `folder` and to /dev/null; from version 4 no TCP, from version 6 no signals to others."""
    version = _LIBC.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    write, make = 1 << 1, sum(1 << bit for bit in range(4, 13))
    truncate = 1 << 14 if version >= 3 else 0
    handled = write | make | truncate | (1 << 13 if version >= 2 else 0)
    rules = struct.pack("QQQ", handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _LIBC.syscall(444, rules, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    for path, allowed in ((folder, handled), ("/dev/null", write | truncate)):
        if path:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            _LIBC.syscall(445, ruleset, ctypes.c_int(1), struct.pack("=Qi", allowed, place), ctypes.c_uint32(0))
            os.close(place)
    held = _LIBC.syscall(446, ruleset, ctypes.c_uint32(0)) == 0
    os.close(ruleset)
    return held


# Numbers of system calls: refused outright; refused unless the first argument is our own process; clone; clone3.
_CALLS = {
    "x86_64": (
        0xC000003E,
        # socket connect fork vfork execve ptrace chmod fchmod chown fchown lchown mknod mount umount2 setxattr x3
        # rt_sigqueueinfo reboot tkill unshare fchownat fchmodat setns rt_tgsigqueueinfo perf_event_open
        # process_vm_readv writev bpf execveat pidfd_send_signal io_uring_setup pidfd_getfd fchmodat2
        (41, 42, 57, 58, 59, 101, 90, 91, 92, 93, 94, 133, 165, 166, 188, 189, 190, 129, 169, 200, 272, 260, 268, 308,
         297, 298, 310, 311, 321, 322, 424, 425, 438, 452),
        (62, 234),
        56,
    ),
    "aarch64": (
        0xC00000B7,
        (198, 203, 221, 117, 52, 53, 54, 55, 33, 40, 39, 5, 6, 7, 138, 142, 130, 97, 268, 240, 241, 270, 271, 280, 281,
         424, 425, 438, 452),
        (129, 131),
        220,
    ),
}  # fmt: skip
_CLONE3, _THREAD, _X32 = 435, 0x00010000, 0x40000000


def _seccomp() -> bool:
    """A filter on system calls; threads of our own are allowed."""
    if platform.machine() not in _CALLS or sys.byteorder != "little" or sys.maxsize < 2**32:
        return False
    machine, refused, own_only, clone = _CALLS[platform.machine()]
    load, equal, any_bit, at_least, give = 0x20, 0x15, 0x45, 0x35, 0x06
    allow, denied, missing, kill = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38, 0x80000000
    code = [(load, 0, 0, 4), (equal, 1, 0, machine), (give, 0, 0, kill), (load, 0, 0, 0)]
    code += [(at_least, 0, 1, _X32), (give, 0, 0, kill)]
    code += [(equal, 0, 1, _CLONE3), (give, 0, 0, missing)]
    for number in refused:
        code += [(equal, 0, 1, number), (give, 0, 0, denied)]
    for number, test, value in ((clone, any_bit, _THREAD), *((number, equal, os.getpid()) for number in own_only)):
        code += [
            (equal, 0, 4, number),
            (load, 0, 0, 16),
            (test, 0, 1, value),
            (give, 0, 0, allow),
            (give, 0, 0, denied),
        ]
    code.append((give, 0, 0, allow))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in code))
    head = struct.pack("HxxxxxxP", len(code), ctypes.addressof(program))
    return _LIBC.prctl(22, 2, head, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


_PROCESSES = {"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec", "os.spawn", "subprocess.Popen"}
_NETWORK = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"}
_CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
            "os.chown", "os.utime", "shutil.rmtree", "os.setxattr"}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def watch(folder: str, layers: list[str], tell: Any) -> None:
    """Refuse what the sandbox does not allow, with a reason that `tell` passes on; cannot be undone."""
    inside = os.path.join(os.path.realpath(folder), "")
    writable = "tmpfs" in layers
    kernel = {"landlock", "seccomp"} <= set(layers)
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


def run_tests(program: str, tests: str) -> str | None:
    """Why the program does not pass its tests; None if it does."""
    space: dict[str, Any] = {"__name__": "solution"}
    stage = "the program"
    try:
        exec(compile(program, "<program>", "exec"), space)
        stage, before = "a test", set(space)
        exec(compile(tests, "<tests>", "exec"), space)
        for name in [name for name in space if name not in before]:
            if name.startswith("test") and callable(space[name]):
                space[name]()
            elif isinstance(space[name], type) and hasattr(space[name], "defaultTestResult"):
                _run_case(space[name])
    except SystemExit:
        return f"{stage} ended the run"
    except MemoryError:
        return f"{stage} needed too much memory"
    except AssertionError as error:
        return f"{stage} failed{_place(error)}: {error}" if str(error) else f"{stage} failed{_place(error)}"
    except BaseException as error:
        return f"{stage} raised {type(error).__name__}{_place(error)}: {error}"
    return None


def _run_case(case: Any) -> None:
    import unittest

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    for test, trace in result.failures + result.errors:
        raise AssertionError(f"{test.id().split('.')[-1]}: {trace.strip().splitlines()[-1]}")


def _place(error: BaseException) -> str:
    trace, found = error.__traceback__, ""
    while trace:
        name = trace.tb_frame.f_code.co_filename
        if name in ("<program>", "<tests>"):
            found = f" (line {trace.tb_lineno} of {name.strip('<>')})"
        trace = trace.tb_next
    return found


def main() -> None:
    """Reads the request from standard input, tells what happens on the descriptor named on the command line."""
    channel = int(sys.argv[1])
    request = json.load(sys.stdin)

    def say(**fields: Any) -> None:
        os.write(channel, (json.dumps(fields) + "\n").encode())

    sys.dont_write_bytecode = True
    limit(request["limits"])
    layers = confine(request["folder"], request["limits"])
    watch(request["folder"], layers, lambda what: say(tried=what))
    say(layers=layers)
    reason = run_tests(request["program"], request["tests"])
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    say(done=request["word"], reason=reason and " ".join(reason.split())[:300])
    os._exit(0)


if __name__ == "__main__":
    main()
