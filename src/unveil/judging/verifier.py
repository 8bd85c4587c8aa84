"""A judge that checks each answer by itself: one that passes beats one that does not, everything else ties."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from unveil.errors import UserError
from unveil.judging.columns import rows_of
from unveil.judging.judge import Columns, Verdict
from unveil.judging.threads import in_threads

# Columns that hold the right answer, by the names that data sets give them; the first one present is read.
REFERENCES = ("reference", "answer", "solution", "target")
_TOLD = 200


@dataclass(frozen=True)
class Check:
    """Whether an answer passed, and why or why not. read: False where the check itself broke on the answer."""

    passed: bool
    reason: str = ""
    read: bool = True

    def __str__(self) -> str:
        if not self.read:
            return f"could not be checked ({self.reason})"
        word = "passes" if self.passed else "fails"
        return f"{word} ({self.reason})" if self.reason else word


@dataclass(frozen=True)
class VerifierJudge:
    """Symmetric, since each answer is checked alone.

    check: (prompt, answer, the other columns of the row) -> Check. at_once: checks that run in parallel. needs: what
    the check reads of a row; raises a UserError for a row that lacks it. prepare: looks, before any work, whether the
    check can be made on this machine, and gives what is to be recorded of that. facts: what it gave.
    """

    name: str
    check: Callable[[str, str, dict[str, Any]], Check]
    reads_columns: bool = True
    at_once: int = 1
    needs: Callable[[dict[str, Any]], Any] | None = None
    prepare: Callable[[], dict[str, Any]] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def check_in(self) -> None:
        """Raise UserError if this machine cannot make the check, before there is any answer."""
        if self.prepare is not None:
            self.facts.update(self.prepare())

    @property
    def symmetric(self) -> bool:
        """True: exchanging the answers exchanges their checks."""
        return True

    def require_row(self, row: dict[str, Any]) -> None:
        """Raise UserError for a row that lacks what the check needs, before there is any answer."""
        if self.needs is not None:
            self.needs(row)

    def compare(
        self,
        prompts: Sequence[str],
        answers_a: Sequence[str],
        answers_b: Sequence[str],
        columns: Columns | None = None,
    ) -> list[Verdict]:
        """One verdict per prompt. Raises UserError when a row lacks what the check needs."""
        passed_a = self.checks(prompts, answers_a, columns)
        passed_b = self.checks(prompts, answers_b, columns)
        return [self._verdict(a, b) for a, b in zip(passed_a, passed_b, strict=True)]

    def checks(self, prompts: Sequence[str], answers: Sequence[str], columns: Columns | None = None) -> list[Check]:
        """The check of every answer."""
        rows = rows_of(columns, len(prompts))
        done: dict[int, Check] = {}

        def run(place: int) -> None:
            try:
                done[place] = self.check(prompts[place], answers[place], rows[place])
            except UserError as error:
                raise UserError(f"{error} (prompt {place})") from error
            except Exception as error:  # an answer may be anything; it must not end the comparison of all others
                told = f"{type(error).__name__}: {' '.join(str(error).split())[:_TOLD]}"
                done[place] = Check(False, told, read=False)

        in_threads(run, range(len(prompts)), self.at_once, threading.Event())
        return [done[place] for place in range(len(prompts))]

    def _verdict(self, a: Check, b: Check) -> Verdict:
        reason = f"A {a}, B {b}"
        if not (a.read and b.read):
            return Verdict("tie", reason, parsed=False)
        if a.passed == b.passed:
            return Verdict("tie", reason)
        return Verdict("A" if a.passed else "B", reason)
