"""A program that attacks its judge, its neighbours or its tests reaches none of them, whichever layers there are."""

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unveil.errors import UserError, UserInputWarning
from unveil.judging.sandbox import Limits, run_sandboxed, sandbox_layers
from unveil.judging.unit_tests import unit_test_judge

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
# Each of them on its own, as on machines that have no more.
KINDS = {
    "bubblewrap": (),
    "own": ("bubblewrap",),
    "no_landlock": ("bubblewrap", "landlock"),
    "no_namespaces": ("bubblewrap", "unshare"),
}


@pytest.fixture(params=KINDS.values(), ids=[*KINDS])
def limits(request) -> Limits:
    # Without landlock and bubblewrap a program is below the minimum (it reads files): what is left must hold.
    found = Limits(seconds=5, memory_mib=256, without=request.param, unsafe=request.param == KINDS["no_landlock"])
    try:
        run_sandboxed("", "", found)
    except UserError:
        pytest.skip("this machine has not these layers")
    return found


@pytest.fixture
def victim():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True) as process:
        yield process
        process.kill()


CALLS = {  # x86_64: number and arguments; VICTIM and JUDGE are process numbers
    "fork": (57,), "vfork": (58,), "execve": (59, 0, 0, 0), "clone": (56, 17, 0, 0, 0, 0), "kill": (62, "VICTIM", 9),
    "tkill": (200, "VICTIM", 9), "tgkill": (234, "VICTIM", "VICTIM", 9), "rt_sigqueueinfo": (129, "VICTIM", 9, 0),
    "rt_tgsigqueueinfo": (297, "VICTIM", "VICTIM", 9, 0), "pidfd_open": (434, "VICTIM", 0),
    "pidfd_send": (424, 3, 9, 0, 0), "pidfd_getfd": (438, 3, 0, 0), "ptrace": (101, 16, "VICTIM", 0, 0),
    "process_vm_readv": (310, "VICTIM", 0, 0, 0, 0, 0), "process_vm_writev": (311, "VICTIM", 0, 0, 0, 0, 0),
    "kcmp": (312, "VICTIM", "JUDGE", 0, 0, 0), "process_madvise": (440, 3, 0, 0, 0, 0),
    "prlimit": (302, "VICTIM", 0, 0, 0), "setpriority": (141, 0, "VICTIM", 19),
    "sched_setaffinity": (203, "VICTIM", 8, 0), "sched_setscheduler": (144, "VICTIM", 0, 0),
    "sched_setattr": (314, "VICTIM", 0, 0), "sched_setparam": (142, "VICTIM", 0), "ioprio_set": (251, 1, "VICTIM", 0),
    "setpgid": (109, 0, 0), "setsid": (112,), "migrate_pages": (256, "VICTIM", 0, 0, 0),
    "move_pages": (279, "VICTIM", 0, 0, 0, 0, 0), "get_robust": (98765,),
    "perf_event_open": (298, 0, "VICTIM", -1, -1, 0), "io_uring_setup": (425, 8, 0), "keyctl": (250, 0, 0),
    "add_key": (248, 0, 0, 0, 0, 0), "request_key": (249, 0, 0, 0, 0), "bpf": (321, 0, 0, 0), "userfaultfd": (323, 0),
    "setns": (308, 0, 0), "unshare": (272, 0x10000000), "mount": (165, 0, 0, 0, 0, 0), "umount2": (166, 0, 0),
    "pivot_root": (155, 0, 0), "chroot": (161, 0), "move_mount": (429, 0, 0, 0, 0, 0), "open_tree": (428, 0, 0, 0),
    "fsopen": (430, 0, 0), "mount_setattr": (442, 0, 0, 0, 0, 0), "socket": (41, 2, 1, 0),
    "socket_unix": (41, 1, 1, 0), "connect": (42, 0, 0, 0), "bind": (49, 0, 0, 0), "sendmsg": (46, 0, 0, 0),
    "pair_of_datagrams": (53, 1, 2, 0, 0), "chmod": (90, 0, 0), "chown": (92, 0, 0, 0), "mknod": (133, 0, 0, 0),
    "setuid": (105, 0), "setgroups": (116, 0, 0), "capset": (126, 0, 0), "personality": (135, 0),
    "seccomp": (317, 0, 0, 0), "prctl_death": (157, 1, 0, 0, 0, 0), "prctl_dumpable": (157, 4, 1, 0, 0, 0),
    "own_signal": (72, 0, 8, "VICTIM"), "set_signal": (72, 0, 10, 9), "own_ex": (72, 0, 15, 0),
    "lease": (72, 0, 1024, 0), "notify": (72, 0, 1026, 1), "async_flag": (72, 0, 4, 0o20000),
    "push_input": (16, 0, 0x5412, 0), "shmget": (29, 0, 1, 0o1000), "msgget": (68, 0, 0o1000),
    "semget": (64, 0, 1, 0o1000), "mq_open": (240, 0, 0, 0, 0), "fanotify_init": (300, 0, 0),
    "name_to_handle": (303, 0, 0, 0, 0, 0), "open_by_handle": (304, 0, 0, 0), "quotactl": (179, 0, 0, 0, 0),
    "reboot": (169, 0, 0, 0), "syslog": (103, 0, 0, 0), "swapon": (167, 0, 0), "init_module": (175, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0), "settimeofday": (164, 0, 0), "acct": (163, 0), "vmsplice": (278, 0, 0, 0, 0),
    "memfd_secret": (447, 0), "landlock": (444, 0, 0, 0), "utimensat": (280, -100, 0, 0, 0), "truncate": (76, 0, 0),
    "open_to_empty": (2, 0, 0o1000, 0), "openat_to_empty": (257, -100, 0, 0o1000, 0),
}  # fmt: skip


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
def test_no_call_of_the_system_reaches_beyond_the_program(limits, victim):
    program = f"""
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
done = []
for name, call in {CALLS!r}.items():
    words = [{{"VICTIM": {victim.pid}, "JUDGE": {os.getpid()}}}.get(word, word) for word in call]
    ctypes.set_errno(0)
    got = libc.syscall(*[ctypes.c_long(word) for word in words])
    if got != -1 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        done.append((name, got, ctypes.get_errno()))
"""
    outcome = run_sandboxed(program, "assert done == [], done", limits)
    assert outcome.passed, outcome.reason
    assert victim.poll() is None


def test_limits_priorities_and_processors_of_others_stay(limits, victim):
    before = os.getpriority(os.PRIO_PROCESS, victim.pid), os.sched_getaffinity(victim.pid), _limits_of(victim.pid)
    program = f"""
import os, resource, signal, fcntl
for pid in ({victim.pid}, os.getppid(), 1):
    for harm in (
        lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (0, 1)),
        lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3)),
        lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
        lambda: os.sched_setaffinity(pid, {{0}}),
        lambda: os.kill(pid, 9),
    ):
        try:
            harm()
            print("did it to", pid)
        except OSError:
            pass
r, w = os.pipe()
for pid in ({victim.pid}, os.getppid()):
    try:
        fcntl.fcntl(r, fcntl.F_SETOWN, pid); fcntl.fcntl(r, 10, signal.SIGKILL)
        fcntl.fcntl(r, fcntl.F_SETFL, fcntl.fcntl(r, fcntl.F_GETFL) | os.O_ASYNC)
        os.write(w, b"x")
        print("signalled", pid)
    except OSError:
        pass
def f(): return 1
"""
    outcome = run_sandboxed(program, "assert f() == 1", limits)
    assert outcome.output == ""
    assert outcome.reason == "tried to signal another process", "and the tests' process was there to tell"
    assert (
        os.getpriority(os.PRIO_PROCESS, victim.pid),
        os.sched_getaffinity(victim.pid),
        _limits_of(victim.pid),
    ) == before
    assert victim.poll() is None


def _limits_of(pid: int) -> str:
    return Path(f"/proc/{pid}/limits").read_text()


def test_neither_the_key_nor_files_of_the_user_can_be_read(limits, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-SECRET-SECRET")
    secret = tmp_path / "token"
    secret.write_text("sk-SECRET-SECRET")
    places = [f"/proc/{os.getpid()}", "/proc/self", "/proc/1", f"/proc/{os.getppid()}"]
    program = f"""
import os, glob
found = []
for place in [*{places!r}, f"/proc/{{os.getppid()}}", *glob.glob("/proc/[0-9]*")]:
    for name in ("environ", "mem", "cmdline", "maps"):
        try:
            if b"SECRET-SECRET" in open(f"{{place}}/{{name}}", "rb").read(1 << 20): found.append(place)
        except (OSError, ValueError): pass
"""
    outcome = run_sandboxed(program, "assert found == [], found", limits)
    assert outcome.passed, outcome.reason
    if {"bubblewrap", "landlock"} & set(outcome.layers):
        outcome = run_sandboxed(f"open({str(secret)!r})", "", limits)
        assert "No such file" in outcome.reason or "Permission denied" in outcome.reason


def test_nothing_is_written_outside_even_without_the_hook(limits, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    program = f"""
import ctypes
libc = ctypes.CDLL(None)
path = {os.fsencode(precious)!r}
done = [libc.open(path, 1), libc.open(path, 0o1101, 0o600), libc.unlink(path), libc.rename(path, path + b"2"),
        libc.truncate(path, ctypes.c_long(0)), libc.mkdir(path + b"3", 0o700), libc.symlink(b"/", path + b"4"),
        libc.open(b"/dev/shm/x-unveil", 0o102, 0o600), libc.open(b"/var/tmp/x-unveil", 0o102, 0o600)]
"""
    outcome = run_sandboxed(program, "assert set(done) == {-1}, done", limits)
    assert outcome.passed, outcome.reason
    assert precious.read_text() == "precious"


def test_settings_of_the_system_and_of_other_processes_cannot_be_opened_for_writing(limits):
    program = """
import ctypes, os
libc = ctypes.CDLL(None)
places = ["sys/vm/overcommit_memory", "sys/kernel/core_pattern", f"{os.getppid()}/oom_score_adj", "sysrq-trigger"]
opened = [place for place in places if libc.open(f"/proc/{place}".encode(), 1) >= 0]
"""
    outcome = run_sandboxed(program, "assert opened == [], opened", limits)
    assert outcome.passed, outcome.reason


def test_a_program_cannot_make_files_without_number(limits):
    program = """
number = 0
try:
    while number < 5000:
        open(f"file{number}", "w").close()
        number += 1
except OSError:
    pass
"""
    outcome = run_sandboxed(program, "assert number < 300, number", limits)
    assert outcome.passed or "outside its folder" in outcome.reason, outcome.reason


def test_the_tests_are_not_in_reach_of_the_program(limits):
    program = """
import gc, os
found = []
word = "se" + "same"
for fd in range(64):
    try: data = os.pread(fd, 1 << 20, 0)
    except OSError: continue
    if word.encode() in data: found.append(fd)
for o in gc.get_objects():
    if isinstance(o, (str, dict, list)) and o is not globals() and word in str(o)[:9999]: found.append(str(o)[:40])
"""
    outcome = run_sandboxed(
        program, "word = 'sesame'\nassert [x for x in found if 'word' not in str(x)] == [], found", limits
    )
    assert outcome.passed, outcome.reason


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_dies_with_its_judge(limits, how):
    judge = f"""
from unveil.judging.sandbox import run_sandboxed, Limits
print("ready", flush=True)
limits = Limits(seconds=60, memory_mib=256, without={limits.without!r}, unsafe={limits.unsafe})
run_sandboxed("import time\\nwhile True: time.sleep(1000)", "", limits)
"""
    with subprocess.Popen([sys.executable, "-c", judge], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        end, below = time.monotonic() + 60, []
        while len(below) < 2 and time.monotonic() < end:
            time.sleep(0.1)
            below = _descendants(process.pid)
        time.sleep(0.3)
        below = _descendants(process.pid)
        assert len(below) >= 2
        process.send_signal(how)
        process.wait()
    end = time.monotonic() + 10
    while any(_lives(pid) for pid in below) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in below if _lives(pid)]


def _descendants(pid: int) -> list[int]:
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found, front = [], [pid]
    while front:
        front = [child for child, parent in parents.items() if parent in front]
        found += front
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_below_the_minimum_nothing_runs_unless_the_user_says_so():
    alone = Limits(memory_mib=256, without=("bubblewrap", "unshare", "landlock", "seccomp"))
    message = (
        "judge unit_tests: on this machine a program could write outside its folder, read files of its user, use the "
        "network, reach other processes, read the environment of its judge; install bubblewrap "
        r"\(bwrap\) and use a kernel with seccomp, or give --unsafe_sandbox"
    )
    with pytest.raises(UserError, match=message):
        unit_test_judge(limits=alone).check_in()
    with pytest.raises(UserError, match=message):
        run_sandboxed("print('ran')", "", alone)
    unsafe = Limits(memory_mib=256, without=alone.without, unsafe=True)
    with pytest.warns(UserInputWarning, match="a program can write outside its folder.*, as --unsafe_sandbox allows"):
        assert sandbox_layers(unsafe) == ["parent death"]
    assert run_sandboxed("print('ran')", "", unsafe).output == "ran\n"


def test_read_only_files_alone_are_below_the_minimum():
    with pytest.raises(UserError, match=r"a program could write outside its folder, read files of its user.*; install"):
        run_sandboxed("", "", Limits(memory_mib=256, without=("bubblewrap", "landlock")))


def test_the_layers_that_hold_are_recorded():
    judge = unit_test_judge()
    try:
        judge.check_in()
    except UserError:
        pytest.skip("this machine is below the minimum")
    assert "seccomp" in judge.facts["sandbox"]
