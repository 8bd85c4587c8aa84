"""A seccomp filter that lets through the system calls of an ordinary Python program and nothing else.

Refused is whatever is not named here, so that calls of future kernels are too: starting programs, sockets, signals and
limits of other processes, tracing, reading of other memory, keys, performance counters, namespaces, mounts.
"""

import ctypes
import os
import struct
import sys

# Allowed whatever their arguments are. Numbers: x86_64, aarch64 (None: there is no such call).
_ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226),
    "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66),
    "access": (21, None), "pipe": (22, None), "select": (23, None), "sched_yield": (24, 124), "mremap": (25, 216),
    "msync": (26, 227), "mincore": (27, 232), "madvise": (28, 233), "dup": (32, 23), "dup2": (33, None),
    "nanosleep": (35, 101), "getitimer": (36, 102), "alarm": (37, None), "setitimer": (38, 103), "getpid": (39, 172),
    "sendto": (44, 206), "recvfrom": (45, 207), "shutdown": (48, 210), "getsockname": (51, 204),
    "getsockopt": (55, 209), "exit": (60, 93), "wait4": (61, 260), "uname": (63, 160), "flock": (73, 32),
    "fsync": (74, 82), "fdatasync": (75, 83), "ftruncate": (77, 46), "getdents": (78, None),
    "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50), "rename": (82, None), "mkdir": (83, None),
    "rmdir": (84, None), "creat": (85, None), "link": (86, None), "unlink": (87, None), "symlink": (88, None),
    "readlink": (89, None), "umask": (95, 166), "gettimeofday": (96, 169), "getrlimit": (97, 163),
    "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176),
    "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173), "getpgrp": (111, None),
    "getgroups": (115, 158), "getresuid": (118, 148), "getresgid": (120, 150), "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "statfs": (137, 43),
    "fstatfs": (138, 44), "setrlimit": (160, 164), "arch_prctl": (158, None), "gettid": (186, 178), "time": (201, None),
    "futex": (202, 98), "epoll_create": (213, None), "getdents64": (217, 61), "set_tid_address": (218, 96),
    "restart_syscall": (219, 128), "fadvise64": (221, 223), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "epoll_wait": (232, None), "epoll_ctl": (233, 21),
    "waitid": (247, 95), "mkdirat": (258, 34), "newfstatat": (262, 79), "unlinkat": (263, 35),
    "renameat": (264, 38), "linkat": (265, 37), "symlinkat": (266, 36), "readlinkat": (267, 78),
    "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73), "set_robust_list": (273, 99),
    "get_robust_list": (274, 100), "epoll_pwait": (281, 22), "timerfd_create": (283, 85),
    "fallocate": (285, 47), "timerfd_settime": (286, 86), "timerfd_gettime": (287, 87), "eventfd2": (290, 19),
    "epoll_create1": (291, 20), "dup3": (292, 24), "pipe2": (293, 59), "preadv": (295, 69), "pwritev": (296, 70),
    "getcpu": (309, 168), "renameat2": (316, 276), "getrandom": (318, 278), "membarrier": (324, 283),
    "copy_file_range": (326, 285), "preadv2": (327, 286), "pwritev2": (328, 287), "statx": (332, 291),
    "rseq": (334, 293), "close_range": (436, 436), "faccessat2": (439, 439), "futex_waitv": (449, 449),
}  # fmt: skip
# Allowed if one argument is one of these values: number on each machine, which argument, values.
_THREAD, _F_GETLK, _F_OFD_SETLKW = 0x00010000, 5, 38
_CHOSEN: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    # Duplicating and flags of descriptors, locks: not who is sent a signal (F_SETOWN, F_SETSIG), leases, notices.
    "fcntl": (72, 25, 1, (0, 1, 2, 3, _F_GETLK, 6, 7, 36, 37, _F_OFD_SETLKW, 1030, 1032, 1034)),
    "ioctl": (16, 29, 1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),  # terminal? size, bytes, blocking, cloexec
    "prctl": (157, 167, 0, (15, 16, 0x53564D41)),  # names of threads and of memory
    "sched_getaffinity": (204, 123, 0, (0,)),
    "prlimit64": (302, 261, 0, (0,)),  # of itself alone
}
_OWN = {"kill": (62, 129), "tgkill": (234, 131)}  # the first argument is our own process
_CLONE, _CLONE3, _SOCKETPAIR, _FCNTL, _F_SETFL, _O_ASYNC = (56, 220), 435, (53, 199), (72, 25), 4, 0o20000
# Opening: number on each machine, which argument holds the flags.
_OPENING = ((2, None, 1), (257, 56, 2))
_O_TRUNC, _O_ACCMODE = 0o1000, 3
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32 = 0x40000000
_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _GIVE = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _DENIED, _MISSING, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000

_Step = tuple[int, int, int, int]


def filter_system_calls() -> bool:
    """Install the filter on this thread and all that it will start; whether it holds."""
    if os.uname().machine not in _MACHINES or sys.byteorder != "little" or sys.maxsize < 2**32:
        return False
    steps = _steps(*_MACHINES[os.uname().machine])
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    head = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
    return ctypes.CDLL(None).prctl(22, 2, head, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def _steps(machine: int, audit_name: int) -> list[_Step]:
    """The filter's program. Another machine's calls (32 bits, x32) end the process."""
    steps: list[_Step] = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, audit_name), (_GIVE, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    steps += [(_AT_LEAST, 0, 1, _X32), (_GIVE, 0, 0, _KILL)]
    for numbers in _ALLOWED.values():
        if (number := numbers[machine]) is not None:
            steps += [(_EQUAL, 0, 1, number), (_GIVE, 0, 0, _ALLOW)]
    for *numbers, argument, values in _CHOSEN.values():
        steps += _if_argument(int(numbers[machine]), argument, _EQUAL, values)
    for numbers in _OWN.values():
        steps += _if_argument(numbers[machine], 0, _EQUAL, (os.getpid(),))
    steps += _if_argument(_CLONE[machine], 0, _ANY_BIT, (_THREAD,))  # threads, no processes
    steps += _stream_pairs(_SOCKETPAIR[machine])
    for *opening, flags in _OPENING:
        if (number := opening[machine]) is not None:
            steps += _opened_as_said(number, flags)
    steps += _flags_without_signals(_FCNTL[machine])
    # glibc takes these for calls of a newer kernel and does without.
    steps += [(_AT_LEAST, 0, 1, _CLONE3), (_GIVE, 0, 0, _MISSING), (_GIVE, 0, 0, _DENIED)]
    return steps


def _if_argument(number: int, argument: int, test: int, values: tuple[int, ...]) -> list[_Step]:
    """Allow a call if an argument passes the test with one of the values; otherwise go on with the next step.

    Only the lower half of the argument is looked at: the kernel takes no more of these (they are of type int).
    """
    inner: list[_Step] = [(_LOAD, 0, 0, 16 + 8 * argument)]
    for value in values:
        inner += [(test, 0, 1, value), (_GIVE, 0, 0, _ALLOW)]
    inner.append((_LOAD, 0, 0, 0))
    return [(_EQUAL, 0, len(inner), number), *inner]


def _stream_pairs(number: int) -> list[_Step]:
    """Pairs of connected sockets (asyncio needs one): datagrams could be sent to any address."""
    stream_only = [(0x54, 0, 0, 0xF), (_EQUAL, 0, 1, 1), (_GIVE, 0, 0, _ALLOW)]  # type & 15 == SOCK_STREAM
    inner = [(_LOAD, 0, 0, 16), (_EQUAL, 0, 4, 1), (_LOAD, 0, 0, 24), *stream_only, (_LOAD, 0, 0, 0)]
    return [(_EQUAL, 0, len(inner), number), *inner]


def _opened_as_said(number: int, flags: int) -> list[_Step]:
    """Open, but do not empty a file that is opened for reading: landlock before version 3 lets that pass."""
    inner = [(_LOAD, 0, 0, 16 + 8 * flags), (_ANY_BIT, 1, 0, _O_TRUNC), (_GIVE, 0, 0, _ALLOW),
             (_ANY_BIT, 0, 1, _O_ACCMODE), (_GIVE, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]  # fmt: skip
    return [(_EQUAL, 0, len(inner), number), *inner]


def _flags_without_signals(number: int) -> list[_Step]:
    """Flags of a descriptor, but not that it sends signals."""
    inner = [(_LOAD, 0, 0, 24), (_EQUAL, 0, 3, _F_SETFL), (_LOAD, 0, 0, 32), (_ANY_BIT, 1, 0, _O_ASYNC),
             (_GIVE, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]  # fmt: skip
    return [(_EQUAL, 0, len(inner), number), *inner]
