"""Programs that a model wrote are contained, and what they did is told."""

import os
import sys
import time

import pytest

from unveil.errors import UserError
from unveil.judging.sandbox import Limits, run_sandboxed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
SMALL = Limits(seconds=2, memory_mib=256, file_mib=4, output_kib=64)
CALL = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
ALL = ("bubblewrap", "unshare", "landlock", "seccomp")


def test_a_right_program_passes_and_a_wrong_one_says_where_it_failed():
    assert run_sandboxed("def f(x):\n    return x + 1", "assert f(1) == 2", SMALL).passed
    wrong = run_sandboxed("def f(x):\n    return x", "\nassert f(1) == 2, 'off by one'", SMALL)
    assert (wrong.passed, wrong.reason) == (False, "a test failed (line 2 of tests): off by one")


def test_functions_and_classes_of_tests_are_called():
    program = "def f(x):\n    return x"
    functions = run_sandboxed(program, "def test_a(): assert f(1) == 1\n\n\ndef test_b(): assert f(1) == 2", SMALL)
    assert functions.reason == "a test failed (line 4 of tests)"
    case = "import unittest\nclass T(unittest.TestCase):\n    def test_x(self):\n        self.assertEqual(f(1), %d)"
    assert run_sandboxed(program, case % 1, SMALL).passed
    assert run_sandboxed(program, case % 2, SMALL).reason == "a test failed: test_x: AssertionError: 1 != 2"


@pytest.mark.parametrize("layers", [(), ALL], ids=["kernel", "hook_only"])
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "tried to start a process"),
        ("import subprocess\nsubprocess.run(['true'])", "tried to start a process"),
        ("import os\nos.system('true')", "tried to start a process"),
        ("import os\nos.execv('/bin/true', ['true'])", "tried to start a process"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 9))", "tried to use the network"),
        ("import urllib.request\nurllib.request.urlopen('http://localhost')", "tried to use the network"),
        ("import os\nos.kill(os.getppid(), 9)", "tried to signal another process"),
        ("import os\nos.remove(OUTSIDE)", "tried to change files outside its folder"),
        ("open(OUTSIDE, 'w')", "tried to write .*, outside its folder"),
        ("try:\n    open(OUTSIDE, 'a').write('x')\nexcept OSError:\n    pass", "tried to write .*, outside its folder"),
    ],
)
def test_harm_is_contained_and_named(tmp_path, program, reason, layers):
    outside = tmp_path / "precious.txt"
    outside.write_text("precious")
    limits = Limits(seconds=2, memory_mib=256, without=layers, unsafe=True)
    outcome = run_sandboxed(program.replace("OUTSIDE", repr(str(outside))), "", limits)
    assert not outcome.passed
    import re

    assert re.match(reason, outcome.reason), outcome.reason
    assert outside.read_text() == "precious"


@pytest.mark.parametrize(
    ("program", "layer"),
    [
        ("assert libc.fork() == -1", "seccomp"),
        ("assert libc.socket(2, 1, 0) == -1", "seccomp"),
        ("assert libc.kill(PARENT, 0) == -1", "seccomp"),
        ("assert libc.execl(b'/bin/true', b'true', None) == -1", "seccomp"),
        ("assert libc.chmod(OUTSIDE, 0o777) == -1", "seccomp"),
        ("assert libc.open(OUTSIDE, 1) == -1", "landlock"),
        ("assert libc.unlink(OUTSIDE) == -1", "landlock"),
        ("assert libc.rename(OUTSIDE, b'mine') == -1", "landlock"),
        ("assert libc.umount2(b'.', 0) == -1", "seccomp"),
    ],
)
def test_the_kernel_holds_what_gets_round_python(tmp_path, program, layer):
    outside = tmp_path / "precious.txt"
    outside.write_text("precious")
    text = program.replace("OUTSIDE", repr(os.fsencode(outside))).replace("PARENT", str(os.getpid()))
    outcome = run_sandboxed(CALL + text, "", SMALL)
    if layer not in outcome.layers:
        pytest.skip(f"this kernel offers no {layer}")
    assert outcome.passed, outcome.reason
    assert outside.read_text() == "precious"


def test_without_the_kernel_foreign_code_is_refused():
    outcome = run_sandboxed(CALL, "", Limits(seconds=2, memory_mib=256, without=ALL, unsafe=True))
    assert outcome.reason == "tried to call foreign code"
    assert outcome.layers == ["parent death"]


@pytest.mark.parametrize("program", ["while True: pass", "import time\ntime.sleep(1000)"], ids=["busy", "asleep"])
def test_a_program_that_does_not_end_is_ended(program):
    start = time.monotonic()
    outcome = run_sandboxed(program, "", Limits(seconds=1, memory_mib=256))
    assert outcome.reason in ("used more than 1 s of processor time", "did not end within 3 s")
    assert time.monotonic() - start < 130


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("while True: print('x' * 1000)", "wrote more than 64 KiB"),
        ("x = bytearray(10**9)", "the program needed too much memory"),
        ("import os\nos._exit(0)", "ended before its tests were done"),
        ("import sys\nsys.exit(0)", "the program ended the run"),
        ("import ctypes\nctypes.string_at(0)", "was ended by SIGSEGV"),
        ("def f(:", "the program raised SyntaxError: "),
        ("1 / 0", "the program raised ZeroDivisionError (line 1 of program): division by zero"),
        ("def f(): f()\nf()", "the program raised RecursionError (line 1 of program)"),
        ("input()", "the program raised EOFError"),
    ],
)
def test_other_ends_are_named(program, reason):
    outcome = run_sandboxed(program, "", SMALL)
    assert not outcome.passed
    assert outcome.reason.startswith(reason)


def test_its_own_folder_is_small_and_vanishes():
    outcome = run_sandboxed("open('mine', 'w').write('x')\nprint(open('mine').read())", "", SMALL)
    if "tmpfs" not in outcome.layers:
        pytest.skip("this kernel gives no folder in memory")
    assert (outcome.passed, outcome.output) == (True, "x\n")
    full = run_sandboxed("for i in range(10**6): open(f'{i}', 'w').write('x' * 10**5)", "", SMALL)
    assert "No space left on device" in full.reason


def test_our_environment_is_not_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    outcome = run_sandboxed("import os\nprint(dict(os.environ))\nassert 'OPENAI_API_KEY' not in os.environ", "", SMALL)
    assert outcome.passed, outcome.output


def test_threads_and_event_loops_are_allowed():
    program = "import asyncio, threading\nr = []\nt = threading.Thread(target=lambda: r.append(1))\nt.start(); t.join()"
    assert run_sandboxed(program, "async def g(): return 3\nassert r and asyncio.run(g()) == 3", SMALL).passed


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="must be positive"):
        Limits(seconds=0)
