"""The first script in the sandbox: gives up rights, then runs a program in one process and its tests in another.

Arguments: the descriptor for what is told to the judge, that of the tests, that of a pipe which ends with the judge,
and the judge's process number (0: not seen from here). Standard input holds the program and what it may use.
"""

import json
import os
import select
import signal
import sys
import threading
import time
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, _HERE)
import confine  # noqa: E402 # pyright: ignore[reportMissingImports]
import exchange  # noqa: E402 # pyright: ignore[reportMissingImports]
import program_side  # noqa: E402 # pyright: ignore[reportMissingImports]
import test_side  # noqa: E402 # pyright: ignore[reportMissingImports]
import watching  # noqa: E402 # pyright: ignore[reportMissingImports]

sys.path.remove(_HERE)
_MOST_TOLD = 20


def main() -> None:
    """Confine, part, run, tell."""
    telling, tests_file, judge_there, judge = (int(word) for word in sys.argv[1:5])
    layers = ["parent death"] if confine.die_with(judge or None) else []
    request = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # nothing is left to be read there
    limits, folder, inside = request["limits"], request["folder"], request["bubblewrap"]
    sys.dont_write_bytecode = True
    sys.argv[:] = ["solution.py"]
    if select.select([judge_there], [], [], 0)[0]:
        os._exit(1)  # the judge was gone before this process could ask to die with it

    def say(**fields: Any) -> None:
        os.write(telling, (json.dumps(fields) + "\n").encode())

    if inside:
        layers += ["bubblewrap", "tmpfs"]
        confine.small_folder(folder, limits)  # on top of bubblewrap's, which has no limit on the number of files
    if not inside and "unshare" not in limits["without"]:
        layers += confine.isolate(folder, limits)
    os.chdir(folder)
    confine.limit(limits)
    confine.drop_capabilities()
    readable = [*request["readable"], *([] if "tmpfs" in layers else [folder])]
    if "landlock" not in limits["without"] and confine.landlock(folder if "tmpfs" in layers else None, readable):
        layers.append("landlock")
    to_program, to_tests = os.pipe(), os.pipe()
    tests_process = os.getpid()
    program_process = os.fork()
    if program_process == 0:
        confine.die_with(tests_process)
        for file in (telling, tests_file, judge_there, to_program[1], to_tests[0]):
            os.close(file)
        _be_program(request["program"], folder, layers, limits, (to_program[0], to_tests[1]))
    for file in (to_program[0], to_tests[1]):
        os.close(file)
    confine.hide_memory()
    # From here on no process can be started; the program's process has filters of its own and waits for this one.
    _end_with(judge_there)
    layers += _filter(limits)
    missing = confine.missing(layers)
    say(layers=layers, missing=missing)
    if missing and not limits["unsafe"]:
        os._exit(0)
    with os.fdopen(tests_file, encoding="utf-8") as file:
        tests = json.load(file)
    say(**_be_tests(tests, program_process, folder, layers, limits, (to_tests[0], to_program[1]), say))
    sys.stdout.flush()
    os._exit(0)


def _filter(limits: dict[str, Any]) -> list[str]:
    if "seccomp" not in limits["without"] and confine.filter_system_calls():
        return ["seccomp"]
    confine.forbid_processes()
    return []


def _end_with(judge_there: int) -> None:
    def wait() -> None:
        os.read(judge_there, 1)  # its end, since nobody writes
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _be_program(program: str, folder: str, layers: list[str], limits: dict[str, Any], pipes: tuple[int, int]) -> None:
    if not os.read(pipes[0], 1):  # until the tests' process is out of reach
        os._exit(1)
    if "landlock" in layers:
        confine.landlock(folder if "tmpfs" in layers else None, ["/"])  # a domain inside the tests' own
    layers = [*layers, *_filter(limits)]
    peer: list[exchange.Peer] = []
    peer.append(exchange.Peer(*pipes, program_side.operations(lambda: peer[0]), lambda told: None))
    watching.watch(folder, layers, lambda what: peer[0].send({"told": what}))
    program_side.serve_program(program, peer[0])
    sys.stdout.flush()
    os._exit(0)


def _be_tests(
    tests: str, program: int, folder: str, layers: list[str], limits: dict[str, Any], pipes: tuple[int, int], say: Any
) -> dict[str, Any]:
    """Whether the program passes, and why not."""
    tried: list[str] = []

    def tell(what: str) -> None:
        if len(tried) < _MOST_TOLD:
            tried.append(what)
            say(tried=what[:300])

    peer = exchange.Peer(*pipes, test_side.operations(), tell)
    watching.watch(folder, layers, tell)
    os.write(pipes[1], b"!")
    try:
        reason = test_side.run_tests(tests, peer)
    except exchange.EndedError:
        reason = _death(program, limits)
    return {"done": True, "reason": reason and " ".join(reason.split())[:300]}


def _death(program: int, limits: dict[str, Any]) -> str:
    """How the program's process ended."""
    for _ in range(100):
        try:
            ended, status = os.waitpid(program, os.WNOHANG)
        except OSError:
            return "ended before its tests were done"
        if ended:
            break
        time.sleep(0.01)
    else:
        return "gave what cannot be read"
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return f"used more than {limits['seconds']:g} s of processor time"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return "ended before its tests were done"


if __name__ == "__main__":
    main()
