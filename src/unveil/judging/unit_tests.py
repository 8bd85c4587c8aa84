"""A verifier that runs a program, taken from an answer, against the unit tests of its row."""

import os
import re
from typing import Any

from unveil.errors import UserError
from unveil.judging.columns import value_of
from unveil.judging.sandbox import Limits, run_sandboxed, sandbox_layers
from unveil.judging.verifier import Check, VerifierJudge

# HumanEval calls it `test`, MBPP `test_list`.
TESTS = ("tests", "test", "test_list")
_LANGUAGE = re.compile(r"[ \t]*+(\w*)")


def unit_test_judge(columns: tuple[str, ...] = TESTS, limits: Limits | None = None) -> VerifierJudge:
    """An answer passes if its program passes the tests of the row within the limits.

    Tests are Python text or a list of statements. With a column `entry_point`, tests that define `check` are called
    as `check(entry_point)`, and a program that does not define that name continues the prompt (HumanEval).

    `check_in` raises UserError where the sandbox of this machine is below the minimum, and the judge's `facts` say
    which layers hold.
    """

    def needs(row: dict[str, Any]) -> str:
        given = value_of(row, columns, "unit_tests")
        tests = "\n".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
        if not tests.strip():
            raise UserError("judge unit_tests: a row has no tests; correct it")
        return tests

    def check(prompt: str, answer: str, row: dict[str, Any]) -> Check:
        tests = needs(row)
        program, entry = code_in(answer), row.get("entry_point")
        if entry:
            if not re.search(rf"(?m)^[ \t]*(?:async )?def {re.escape(str(entry))}\b", program):
                program = prompt + program
            if re.search(r"(?m)^def check\(", tests):
                tests += f"\n\ncheck({entry})\n"
        outcome = run_sandboxed(program, tests, limits)
        return Check(outcome.passed, outcome.reason)

    def held_by() -> dict[str, Any]:
        return {"sandbox": sandbox_layers(limits)}

    at_once = max(1, (os.cpu_count() or 2) // 2)
    return VerifierJudge("unit tests", check, at_once=at_once, needs=needs, prepare=held_by)


def code_in(answer: str) -> str:
    """The last fenced Python block, else the last fenced block, else the whole answer."""
    blocks = _fenced(answer)
    python = [code for language, code in blocks if language.lower() in ("python", "py", "python3")]
    if python:
        return python[-1]
    return blocks[-1][1] if blocks else answer


def _fenced(text: str) -> list[tuple[str, str]]:
    """Language and code of the fenced blocks; the last one may lack its end."""
    blocks = []
    fence = text.find("```")
    while fence >= 0 and (line_end := text.find("\n", fence)) >= 0:
        language = _LANGUAGE.match(text, fence + 3)
        end = text.find("```", line_end + 1)
        code = text[line_end + 1 :] if end < 0 else text[line_end + 1 : end]
        blocks.append((language[1] if language else "", code))
        fence = -1 if end < 0 else text.find("```", end + 3)
    return blocks
