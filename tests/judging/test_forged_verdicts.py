"""A program gives values; the verdict is not in its hands. What ordinary tests do goes on working."""

import sys

import pytest

from unveil.judging.sandbox import Limits, run_sandboxed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
SMALL = Limits(seconds=5, memory_mib=256)
EVIL = """
class Evil{base}:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __eq__
    def __sub__(self, other): return 0
    __rsub__ = __add__ = __radd__ = __mul__ = __mod__ = __sub__
    __hash__ = object.__hash__
def f(x):
    return Evil()
"""
TESTS = "assert f(1) == 2"


@pytest.mark.parametrize(
    "program",
    [
        EVIL.format(base=""),
        EVIL.format(base="(int)"),
        EVIL.format(base="(list)"),
        "import os\nos._exit(0)",
        "import os\ndef f(x): os._exit(0)",
        "import sys\ndef f(x): sys.exit(0)",
        "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 3",
        "import builtins\nbuiltins.AssertionError = type('Fine', (Exception,), {})\ndef f(x): return 3",
        "import builtins\nbuiltins.compile = lambda *a: 'pass'\nbuiltins.exec = lambda *a: None\ndef f(x): return 3",
        "import os, threading, time\nthreading.Thread(target=lambda: (time.sleep(.2), os._exit(0))).start()\n"
        "def f(x):\n    time.sleep(1)\n    return 3",
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'{\"done\": true, \"reason\": null}\\n')\n"
        "    except OSError: pass\ndef f(x): return 3",
        "import sys\nfor m in list(sys.modules.values()):\n"
        "    for n in ('run_tests', '_run', 'reason_of', '_compared', 'decode', 'encode'):\n"
        "        if hasattr(m, n): setattr(m, n, lambda *a, **k: None)\ndef f(x): return 3",
        "import sys\nsys.modules['unittest'] = None\nprint('{\"done\": true, \"reason\": null}')\ndef f(x): return 3",
        "import gc\nfor o in gc.get_objects():\n    if isinstance(o, str) and 'assert f(1)' in o: N = 2\n"
        "def f(x): return N",
        "import os\nos.kill(os.getppid(), 9)\ndef f(x): return 3",
        "class f:\n    def __new__(cls, x): return cls\n    def __class_getitem__(cls, x): return 2",
    ],
    ids=["equal", "int", "list", "exit", "exit_in_call", "sys_exit", "atexit", "builtins", "exec", "thread", "channel",
         "modules", "printed", "memory", "kill", "class"],
)  # fmt: skip
def test_a_program_that_is_wrong_never_passes(program):
    assert not run_sandboxed(program, TESTS, SMALL).passed
    assert run_sandboxed("def f(x): return 2", TESTS, SMALL).passed


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        (EVIL.format(base=""), "assert abs(f(1) - 2.5) < 1e-6"),
        (EVIL.format(base=""), "assert f(1) in [1, 2]"),
        (EVIL.format(base=""), "assert 7 in f(1)"),
        (EVIL.format(base=""), "assert not (f(1) != 2)"),
        (EVIL.format(base="(float)"), "import math\nassert math.isclose(f(1), 2.5)"),
        ("abs = lambda x: 0\ndef f(x): return 9", "assert abs(f(1) - 2) < 1"),
        ("class math:\n    isclose = staticmethod(lambda *a: True)\ndef f(x): return 9",
     "assert math.isclose(f(1), 2)"),
        ("all = any = bool = len = lambda x: True\ndef f(x): return 9", "assert all([f(1) == 2])"),
        ("def test_f(): pass\ndef f(x): return 9", "def test_f():\n    assert f(1) == 2"),
        ("def check(candidate): pass\ndef f(x): return 9", "def check(candidate):\n"
     "    assert candidate(1) == 2\ncheck(f)"),
        ("def f(g):\n    try: return g.__globals__['right']\n    except Exception: return 0", "right = 5\n"
     "assert f(lambda: 0) == right"),
        ("import os\ndef f(x): os._exit(0)", "try:\n    f(1)\nexcept:\n    pass\nassert True"),
        ("def f(x): raise StopIteration", "for got, want in zip(map(f, [1, 2]), [2, 3]):\n    assert got == want"),
        ("def f(x): raise StopIteration", "assert all(map(lambda x: f(x) == x, [1, 2]))"),
        ("class Counter:\n    def __init__(self, *a): pass\n    def __eq__(self, o): return True\n"
     "def f(x): return Counter()", "assert f('aab') == Counter('aab')"),
        ("class Any:\n    def __eq__(self, o): return True\ndef deque(*a): return Any()\nf = deque",
     "assert f([1]) == deque([1])"),
        ("class np:\n    allclose = staticmethod(lambda *a: True)\ndef f(x): return 9",
     "assert np.allclose(f(1), [2])"),
        ("def isclose(*a): return True\ndef f(x): return 9", "assert isclose(f(1), 2)"),
    ],
)  # fmt: skip
def test_comparisons_are_the_judges(program, tests):
    assert not run_sandboxed(program, tests, SMALL).passed


# A program that speaks to the tests' process itself, past the functions that would do it: NAMES, then always GAVE.
SPEAKS = """
import fcntl, json, os, struct
def end(mode):
    for fd in range(4, 64):
        try:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & 3 == mode: return fd
        except OSError: pass
writing, reading = end(os.O_WRONLY), end(os.O_RDONLY)
def say(message):
    data = json.dumps(message).encode()
    os.write(writing, struct.pack("Q", len(data)) + data)
own = {"object": {"mine": 0, "coroutine": False}}
say({"names": {"f": own, **NAMES}})
while head := os.read(reading, 8):
    os.read(reading, *struct.unpack("Q", head))
    say({"gave": GAVE, "printed": ""})
os._exit(0)
"""


@pytest.mark.parametrize(
    ("replaced", "gave", "tests"),
    [
        ("abs", 0, "assert abs(f(1) - 2.5) < 1e-6"),
        ("all", True, "assert all([f(1) == 2])"),
        ("range", [], "for x in range(3):\n    assert f(x) == 2"),
        ("len", 1, "def test_f():\n    assert len([x for x in [1] if f(x) == 2]) == 1"),
    ],
)
def test_no_program_puts_other_builtins_under_its_tests(replaced, gave, tests):
    names = {"__builtins__": {"dict": [[replaced, {"object": {"mine": 0}}]]}, "__name__": "other"}
    program = SPEAKS.replace("NAMES", repr(names)).replace("GAVE", repr(gave))
    assert not run_sandboxed(program, tests, SMALL).passed
    right = SPEAKS.replace("NAMES", "{}").replace("GAVE", "2")
    assert run_sandboxed(right, "assert f(1) == 2", SMALL).passed, "it does speak to the tests"


# fmt: off
ORDINARY = [
    ("def f(x): return x * 1.1", "assert abs(f(3) - 3.3) < 1e-6\nimport math\nassert math.isclose(f(1), 1.1)"),
    ("def f(x):\n    if x < 0: raise ValueError('neg', x)\n    return x",
     "try:\n    f(-1)\n    assert False\nexcept ValueError as e:\n    assert e.args == ('neg', -1)"),
    ("class Own(ValueError): pass\ndef f(): raise Own('x')",
     "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        with self.assertRaises(Own): f()\n"
     "        self.assertRaises(ValueError, f)"),
    ("def f(a): a.sort(); return a", "x = [3, 1, 2]\nassert f(x) is x and x == [1, 2, 3]"),
    ("def f(d): d['k'] = {1, 2}", "x = {}\nassert f(x) is None and x == {'k': {1, 2}}"),
    ("def f(g, x): return [g(y) for y in x]", "assert f(lambda y: y + 1, (1, 2)) == [2, 3]"),
    ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2]\nassert next(f(1)) == 0"),
    ("def f(n): return lambda x: x + n", "assert f(2)(3) == 5"),
    ("from collections import *\nfrom fractions import Fraction\nimport decimal, datetime",
     "assert Counter('aab') == {'a': 2, 'b': 1}\nassert Fraction(1, 2) + 1 == Fraction(3, 2)\n"
     "assert deque([1]) == deque([1])\nassert datetime.date(2020, 1, 2).day == 2\nP = namedtuple('P', 'x y')"),
    ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
     "assert f() == (1, 2) and f().x == 1"),
    ("class Solution:\n    count = 0\n    def f(self, x, *, k=1):\n        self.count += k\n        return x[::-1]",
     "s = Solution()\nassert s.f([1, 2], k=2) == [2, 1] and s.count == 2\nassert isinstance(s, Solution)"),
    ("from dataclasses import dataclass\n@dataclass\nclass V:\n    x: int\n"
     "    def __add__(self, o): return V(self.x + o.x)",
     "assert V(1) + V(2) == V(3)\nassert (V(1) + V(2)).x == 3\nassert V(1) != V(2) and V(1) != 1"),
    ("import enum\nclass C(enum.Enum):\n    A = 1\ndef f(): return C.A",
     "assert f() == C.A and f() is C.A and f().value == 1"),
    ("class S(list):\n    def push(self, x): self.append(x)", "s = S()\ns.push(3)\n"
     "assert s == [3] and len(s) == 1 and s[0] == 3"),
    ("async def f(x): return x + 1", "import asyncio\nassert asyncio.run(f(1)) == 2"),
    ("def f(): print('hello')", "import io, contextlib\nout = io.StringIO()\n"
     "with contextlib.redirect_stdout(out):\n    f()\n"
     "assert out.getvalue() == 'hello\\n'"),
    ("import math\ndef f(r): return math.pi * r", "assert f(1) == math.pi"),
    ("def f(root): return root.left.val if root.left else None",
     "class Node:\n    def __init__(self, val, left=None): self.val, self.left = val, left\n"
     "assert f(Node(1, Node(2))) == 2\n"
     "assert f(Node(1)) is None"),
    ("def f(x): return x",
     "for v in [None, True, 1.5, float('inf'), 10**5000, 'a\\ud800', b'\\xff', (1, (2,)), {1: (2,)}, {(1, 2)},\n"
     "          frozenset([1]), 1j, range(3), [[]], -0.0]:\n    assert f(v) == v and type(f(v)) is type(v), v\n"
     "assert f(float('nan')) != 1"),
    ("import re\ndef f(s): return re.match(r'(\\d+)', s)", "assert f('12').group(1) == '12'\nassert not f('x')"),
    ("def f(x, eps=1e-9, **more): return (x, eps, more)", "assert f(1, a=2) == (1, 1e-9, {'a': 2})"),
    ("class Account:\n    def __init__(self): self._b = 0\n    def __enter__(self): return self\n"
     "    def __exit__(self, *e): self._b = -1\n    def __len__(self): return 4\n"
     "    def __getitem__(self, i): return i * 2",
     "a = Account()\nwith a as b:\n    assert b is a and b[3] == 6 and len(b) == 4\nassert a._b == -1"),
    ("class Up:\n    n = 0\n    def __iter__(self): return self\n    def __next__(self):\n        self.n += 1\n"
     "        if self.n > 2: raise StopIteration\n        return self.n",
     "u = Up()\nassert u.__next__() == 1 and next(u) == 2\ntry:\n    u.__next__()\n    assert False\n"
     "except StopIteration:\n    pass\nassert list(Up()) == [1, 2]"),
    ("class Counter:\n    n = 0\n    def step(self):\n        self.n += 1\n        return self.n",
     "c = Counter()\nassert c.step() == 1 and c.step() == 2"),
    ("import numpy as np\ndef f(x): return np.array(x) * 2", "assert np.allclose(f([1, 2]), [2, 4])"),
    ("def sum(a, b): return a + b + 1", "assert sum(10, 15) == 26"),
    ("def statistics(x): return max(x)", "assert statistics([1, 3]) == 3"),
    ("def f(x): return sum(x)", "def check(candidate):\n    assert candidate([1, 2]) == 3\n\ncheck(f)"),
]
# fmt: on


@pytest.mark.parametrize(("program", "tests"), ORDINARY, ids=[str(n) for n in range(len(ORDINARY))])
def test_ordinary_tests_work(program, tests):
    outcome = run_sandboxed(program, tests, SMALL)
    assert outcome.passed, outcome.reason
