"""Reading a verdict from what a judge wrote: tolerant of form, never guessing.

A verdict may be a JSON object anywhere in the text, `[[A]]`, a line such as `Verdict: **B**`, or the whole reply or
its last line may be nothing but a verdict. If two of them contradict each other, or none is found, nothing is read.
Reading takes time in proportion to the length of the text, whatever the text is.
"""

import re
from collections.abc import Iterator
from typing import Any

from unveil.judging.json_in_text import json_values
from unveil.judging.judge import Verdict, Winner

_KEYS = ("verdict", "winner", "final_verdict", "better", "better_answer", "preference", "preferred", "choice")
_REASONS = ("reason", "reasoning", "explanation", "rationale", "justification")
_TIES = {"tie", "tied", "draw", "equal", "both", "neither", "same", "even", "a=b", "b=a", "a tie", "a draw"}
_NOUN = r"(?:answer|assistant|response|option|model|candidate|output)"
_SIDE = re.compile(rf"(?:{_NOUN}[ _-]*)?([ab])(?: is (?:(?:clearly|slightly|much) )?better| wins)?")
_ORDERED = re.compile(r"([ab])\s*>{1,2}\s*([ab])")
_EQUALLY = re.compile(rf"(?:both (?:{_NOUN}s )?(?:are )?)?equally (?:good|bad)|it(?:’? ?s)? (?:is )?a (?:tie|draw)")
_BRACKETS = re.compile(r"\[\[\s{0,9}([^\[\]\s](?:[^\[\]\n]{0,18}[^\[\]\s])?)\s{0,9}\]\]")
_MARK = (
    r"(?:final |overall |my ){0,3}(?:verdict|winner|(?:better|preferred) answer|preference|decision|judge?ment|choice)"
)
# Looked for by its word; what stands around the word is looked at by itself, once, or long runs would be read again
# and again from each of their places.
_MARKED = re.compile(rf"(?i)(?<![a-z0-9])(?:the )?{_MARK}(?=[\s*_\"'`]{{0,20}}(?:[:=\-]|is\b))")
_BEFORE, _AFTER = " \t>#*_-\"'`{", re.compile(r"(?i)[\s*_\"'`]{0,20}(?:[:=\-]{1,20}|is\b)[\s*_\"'`:]{0,20}")
_BREAK = re.compile(r"[,.;:(\n]|\s-+\s|\s?[–—]\s?|\b(?:because|since|as)\b")
_THINKING = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_LONGEST_REASON, _LONGEST_LINE, _LONGEST_MARK = 500, 500, 80


def read_verdict(text: str) -> Verdict:
    """The verdict in a judge's reply, with its reason; `parsed=False` when there is none, or several that differ."""
    said = _without_thoughts(text)
    found, reasons, rest = _from_json(said)
    found |= {winner for mark in _BRACKETS.findall(rest) if (winner := named(mark, letters_only=False))}
    found |= {winner for place in _marked(rest) if (winner := _leading(rest, place))}
    if not found:
        found = _alone(rest)
    reason = " ".join((reasons[0] if reasons else said).split())
    if len(reason) > _LONGEST_REASON:
        reason = f"{reason[:_LONGEST_REASON]}..."
    if len(found) != 1:
        fault = "contradicts itself" if found else "holds no verdict" if said.strip() else "is empty"
        return Verdict("tie", f"the reply {fault}: {reason}" if reason else f"the reply {fault}", parsed=False)
    return Verdict(found.pop(), reason)


def named(mark: str, letters_only: bool = True) -> Winner | None:
    """The winner that a short mark names (`B`, `Answer A`, `**tie**`, `A>B`), None if it names none.

    letters_only=False also takes C for a tie, as in `[[C]]`.
    """
    if len(mark) > _LONGEST_MARK:
        return None
    plain = " ".join(re.sub(r"[\"'`*_\[\](){}.,;!]", " ", mark).split()).lower()
    if plain in _TIES or _EQUALLY.fullmatch(plain) or (plain == "c" and not letters_only):
        return "tie"
    ordered = _ORDERED.fullmatch(plain)
    if ordered:
        better, worse = ordered.groups()
        return None if better == worse else "A" if better == "a" else "B"
    side = _SIDE.fullmatch(plain)
    return None if side is None else "A" if side[1] == "a" else "B"


def _marked(text: str) -> Iterator[int]:
    """Where the words after `Verdict:` and the like begin; the mark begins a line or a sentence."""
    begun = 0  # whatever stands before a mark is looked at once
    for mark in _MARKED.finditer(text):
        place = mark.start()
        while place > begun and text[place - 1] in _BEFORE:
            place -= 1
        first = place == 0 or text[place - 1] == "\n" or (text[place].isspace() and text[place - 1] in ".,;:!?")
        begun = mark.end()
        if first and (after := _AFTER.match(text, mark.end())):
            yield after.end()


def _leading(text: str, start: int) -> Winner | None:
    """The winner that a line names at its start: of `A`, of `A, because ...`, but not of `A, B or tie`."""
    end = text.find("\n", start, start + _LONGEST_LINE)
    line = text[start : end if end >= 0 else start + _LONGEST_LINE]
    first, *others = _BREAK.split(line, maxsplit=1)
    if len(first) > 60 or any(named(part) for part in re.split(r"[,|/]|\bor\b", "".join(others))):
        return None
    return named(first)


def _without_thoughts(text: str) -> str:
    """What follows a reasoning model's thoughts; thoughts that never end are no reply."""
    kept, end, inside = [], 0, False
    for mark in _THINKING.finditer(text):
        if mark[1]:
            if not inside:  # the template opened them
                kept.clear()
            end, inside = mark.end(), False
        elif not inside:
            kept.append(text[end : mark.start()])
            inside = True
    return "".join(kept if inside else [*kept, text[end:]])


def _from_json(text: str) -> tuple[set[Winner], list[str], str]:
    """Verdicts and reasons of the JSON objects in a text, and the text without those objects."""
    found: set[Winner] = set()
    reasons: list[str] = []
    rest, end = [], 0
    for start, stop, value in json_objects(text):
        fields = {str(key).strip().lower().replace(" ", "_"): part for key, part in value.items()}
        marks = [fields[key] for key in _KEYS if isinstance(fields.get(key), str)]
        if not marks:
            continue
        found |= {winner for mark in marks if (winner := named(mark))}
        reasons += [fields[key] for key in _REASONS if isinstance(fields.get(key), str)]
        rest.append(text[end:start])
        end = stop
    return found, reasons, " ".join([*rest, text[end:]])


def json_objects(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Start, end and value of every outermost JSON object in a text."""
    for start, stop, value in json_values(text, "{"):
        if isinstance(value, dict):
            yield start, stop, value


def _alone(text: str) -> set[Winner]:
    """The verdict that is the whole reply or its last line."""
    lines = [line for line in text.strip().strip("`").splitlines() if line.strip(" `*_#")]
    for candidate in (text, lines[-1] if lines else ""):
        if len(candidate) < 80 and (winner := named(candidate.strip("`# \n"))):
            return {winner}
    return set()
