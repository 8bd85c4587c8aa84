"""Verifiers that compare an answer with the row's reference: exact, numeric, regular expression."""

import math
import re
import unicodedata
from typing import Any

import regex  # like `re`, and it can be told to give up

from unveil.errors import UserError
from unveil.judging.columns import value_of
from unveil.judging.final_answer import final_answer, last_number
from unveil.judging.verifier import REFERENCES, Check, VerifierJudge

_SHOWN = 60
_EDGES = " \t\n\"'`*_.,;:!?()[]$"


def exact_judge(references: tuple[str, ...] = REFERENCES) -> VerifierJudge:
    """The answer, or what it marks as its final answer, equals the reference (one of them, if there is a list).

    Compared without regard to case, width, white space, and quotes or punctuation around it.
    """

    def needs(row: dict[str, Any]) -> Any:
        return value_of(row, references, "exact")

    def check(prompt: str, answer: str, row: dict[str, Any]) -> Check:
        wanted = needs(row)
        right = {normalise(part) for one in _several(wanted) for part in (one, final_answer(one)) if part}
        given = [part for part in (final_answer(answer), answer) if part]
        passed = any(normalise(part) in right for part in given)
        return Check(passed, "" if passed else f"{_short(given[0] if given else '')} is not {_short(str(wanted))}")

    return VerifierJudge("exact answer", check, needs=needs)


def normalise(text: str) -> str:
    """Compatibility form, case folded, white space squeezed, without marks around it."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\s+", " ", text).strip(_EDGES)


def numeric_judge(tolerance: float = 1e-6, references: tuple[str, ...] = REFERENCES) -> VerifierJudge:
    """The number of the final answer, or the last one, is the reference's: |a - b| <= tolerance x max(1, |b|)."""
    if not (tolerance >= 0 and math.isfinite(tolerance)):
        raise UserError(f"--judge_tolerance {tolerance}: give 0 or more")

    def needs(row: dict[str, Any]) -> float:
        wanted = value_of(row, references, "numeric")
        right = last_number(str(wanted))
        if right is None:
            raise UserError(f"judge numeric: the reference {_short(str(wanted))} holds no number; correct the row")
        return right

    def check(prompt: str, answer: str, row: dict[str, Any]) -> Check:
        right = needs(row)
        given = last_number(answer)
        if given is None:
            return Check(False, "no number")
        passed = abs(given - right) <= tolerance * max(1.0, abs(right))
        return Check(passed, f"{given:g}" if passed else f"{given:.10g} is not {right:.10g}")

    return VerifierJudge("numeric", check, needs=needs)


def regex_judge(
    pattern: str | None = None, references: tuple[str, ...] = REFERENCES, seconds: float = 2.0
) -> VerifierJudge:
    """The answer holds a match; without a pattern, of the row's reference. A search longer than `seconds` fails."""
    fixed = None if pattern is None else _compiled(pattern, "--judge regex")

    def needs(row: dict[str, Any]) -> Any:
        return fixed or _compiled(str(value_of(row, references, "regex")), "judge regex")

    def check(prompt: str, answer: str, row: dict[str, Any]) -> Check:
        wanted = needs(row)
        try:
            found = wanted.search(answer, timeout=seconds)
        except TimeoutError:
            return Check(False, f"searching took more than {seconds:g} s")
        return Check(found is not None, f"found {_short(found[0])}" if found else "no match")

    name = "regex" if pattern is None else f"regex {pattern}"
    return VerifierJudge(name, check, reads_columns=pattern is None, needs=needs)


def _compiled(pattern: str, where: str) -> Any:
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise UserError(f"{where}: {_short(pattern)} is no regular expression ({error}); correct it") from error


def _several(wanted: Any) -> list[str]:
    return [str(one) for one in wanted] if isinstance(wanted, list | tuple) else [str(wanted)]


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return repr(plain if len(plain) <= _SHOWN else f"{plain[: _SHOWN - 3]}...")
