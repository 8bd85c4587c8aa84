"""The final answer in a worked solution, and numbers in a text.

Read as final, the later mark first: `\\boxed{...}`, `#### ...` (GSM8K), `the answer is ...`, `Answer: ...`.
"""

import re
import unicodedata

_BOXED = re.compile(r"\\boxed\s*\{|\\fbox\s*\{")
_HASHES = re.compile(r"(?m)^.*?####\s*(.+?)\s*$")
_SAID = re.compile(r"(?im)\b(?:final )?answer\s*(?:is\b\s*:?|:)[ \t*]*(.+?)\s*$")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(rf"((?:(?<![\w)])[-+])?(?:{_DIGITS})(?:[eE][-+]?\d+)?)(?:\s?/\s?({_DIGITS}))?")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")


def final_answer(text: str) -> str | None:
    """What a text marks as its final answer, None without a mark."""
    marked = [(match.start(), _balanced(text, match.end())) for match in _BOXED.finditer(text)]
    marked += [(match.start(1), match[1]) for pattern in (_HASHES, _SAID) for match in pattern.finditer(text)]
    found = [(place, answer.strip()) for place, answer in marked if answer and answer.strip()]
    if not found:
        return None
    answer = max(found)[1]
    inner = final_answer(answer) if _BOXED.search(answer) else None
    return inner or answer


def last_number(text: str) -> float | None:
    """The number in the final answer, or else the last one in the text; thousands with commas, fractions too."""
    for part in (final_answer(text), text):
        numbers = _numbers(part) if part else []
        if numbers:
            return numbers[-1]
    return None


def _numbers(text: str) -> list[float]:
    plain = unicodedata.normalize("NFKC", text).replace("\u2212", "-").replace("{,}", ",").replace("\\,", "")
    plain = _FRACTION.sub(r"\1/\2", plain).replace("$", " ")
    values = []
    for over, under in _NUMBER.findall(plain):
        divisor = float(under.replace(",", "")) if under else 1.0
        if divisor:
            values.append(float(over.replace(",", "")) / divisor)
    return values


def _balanced(text: str, start: int) -> str | None:
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return None
