"""Reading a verdict from what a judge wrote: tolerant of form, never guessing.

A verdict may be a JSON object anywhere in the text, `[[A]]`, a line such as `Verdict: **B**`, or the whole reply or
its last line may be nothing but a verdict. If two of them contradict each other, or none is found, nothing is read.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from unveil.judging.judge import Verdict, Winner

_KEYS = ("verdict", "winner", "final_verdict", "better", "better_answer", "preference", "preferred", "choice")
_REASONS = ("reason", "reasoning", "explanation", "rationale", "justification")
_TIES = {"tie", "tied", "draw", "equal", "both", "neither", "same", "even", "a=b", "b=a", "a tie", "a draw"}
_NOUN = r"(?:answer|assistant|response|option|model|candidate|output)"
_SIDE = re.compile(rf"(?:{_NOUN}[ _-]*)?([ab])(?: is (?:(?:clearly|slightly|much) )?better| wins)?")
_ORDERED = re.compile(r"([ab])\s*>{1,2}\s*([ab])")
_EQUALLY = re.compile(rf"(?:both (?:{_NOUN}s )?(?:are )?)?equally (?:good|bad)|it(?:’? ?s)? (?:is )?a (?:tie|draw)")
_BRACKETS = re.compile(r"\[\[\s*([^\[\]\n]{1,20}?)\s*\]\]")
_MARK = r"(?:final |overall |my )*(?:verdict|winner|(?:better|preferred) answer|preference|decision|judge?ment|choice)"
_MARKED = re.compile(rf"(?im)(?:^|[.,;:!?]\s)[\s>#*_\-\"'`{{]*(?:the )?{_MARK}[\s*_\"'`]*(?:[:=\-]+|is\b)[\s*_\"'`:]*")
_BREAK = re.compile(r"[,.;:(\n]|\s-+\s|\s?[–—]\s?|\b(?:because|since|as)\b")
_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_OPEN_THOUGHT = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_LONGEST_REASON = 500


def read_verdict(text: str) -> Verdict:
    """The verdict in a judge's reply, with its reason; `parsed=False` when there is none, or several that differ."""
    said = _without_thoughts(text)
    found, reasons, rest = _from_json(said)
    found |= {winner for mark in _BRACKETS.findall(rest) if (winner := named(mark, letters_only=False))}
    found |= {winner for mark in _MARKED.finditer(rest) if (winner := _leading(rest[mark.end() :]))}
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
    plain = " ".join(re.sub(r"[\"'`*_\[\](){}.,;!]", " ", mark).split()).lower()
    if plain in _TIES or _EQUALLY.fullmatch(plain) or (plain == "c" and not letters_only):
        return "tie"
    ordered = _ORDERED.fullmatch(plain)
    if ordered:
        better, worse = ordered.groups()
        return None if better == worse else "A" if better == "a" else "B"
    side = _SIDE.fullmatch(plain)
    return None if side is None else "A" if side[1] == "a" else "B"


def _leading(text: str) -> Winner | None:
    """The winner that the start of a line names: of `A`, of `A, because ...`, but not of `A, B or tie`."""
    line = text.split("\n")[0]
    first, *others = _BREAK.split(line, maxsplit=1)
    if len(first) > 60 or any(named(part) for part in re.split(r"[,|/]|\bor\b", "".join(others))):
        return None
    return named(first)


def _without_thoughts(text: str) -> str:
    """What follows a reasoning model's thoughts; thoughts that never end are no reply."""
    text = _THOUGHT.sub("", text)
    if "</think>" in text:  # the template opened them
        text = text.rsplit("</think>", 1)[1]
    return _OPEN_THOUGHT.split(text)[0]


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
    """Start, end and value of every outermost JSON object in a text; line breaks inside strings are forgiven."""
    decoder, place = json.JSONDecoder(strict=False), text.find("{")
    while place >= 0:
        try:
            value, stop = decoder.raw_decode(text, place)
        except (json.JSONDecodeError, RecursionError):
            stop = place + 1
        else:
            if isinstance(value, dict):
                yield place, stop, value
        place = text.find("{", stop)


def _alone(text: str) -> set[Winner]:
    """The verdict that is the whole reply or its last line."""
    lines = [line for line in text.strip().strip("`").splitlines() if line.strip(" `*_#")]
    for candidate in (text, lines[-1] if lines else ""):
        if len(candidate) < 80 and (winner := named(candidate.strip("`# \n"))):
            return {winner}
    return set()
