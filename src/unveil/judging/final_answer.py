"""The final answer in a worked solution, and numbers in a text.

Read as final, the later mark first: `\\boxed{...}`, `#### ...` (GSM8K), `the answer is ...`, `Answer: ...`.
"""

import re
import unicodedata

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*+\{")
# What follows these marks, up to the end of its line, is the answer.
_HASHES = re.compile(r"####\s*+(?=\S)")
_SAID = re.compile(r"(?i)\b(?:final )?answer\s*+(?:is\b\s*+:?|:)[ \t*]*+")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(rf"((?:(?<![\w)])[-+])?(?:{_DIGITS})(?:[eE][-+]?\d+)?)(?:\s?/\s?({_DIGITS}))?")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")


def final_answer(text: str) -> str | None:
    """What a text marks as its final answer, None without a mark."""
    marked = [(start, text[begin:end]) for start, begin, end in _boxes(text)][-1:]
    marked += [said for pattern in (_HASHES, _SAID) if (said := _last_line_after(pattern, text))]
    if not marked:
        return None
    answer = max(marked)[1]
    inner = final_answer(answer) if _BOXED.search(answer) else None
    return inner or answer


def _last_line_after(mark: re.Pattern[str], text: str) -> tuple[int, str] | None:
    """Where the last marked line with anything in it begins, and that line."""
    found, done = None, -1
    for match in mark.finditer(text):
        begin = match.end()
        if begin < done:  # within the line that an earlier mark took
            continue
        done = text.find("\n", begin)
        done = len(text) if done < 0 else done
        if said := text[begin:done].strip():
            found = begin, said
    return found


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


def _boxes(text: str) -> list[tuple[int, int, int]]:
    """Where each box with anything in it begins, and its content, by where they begin."""
    opened: dict[int, int] = {match.end() - 1: match.start() for match in _BOXED.finditer(text)}
    stack: list[int] = []
    found = []
    for brace in re.finditer(r"[{}]", text) if opened else ():
        if brace[0] == "{":
            stack.append(brace.start())
        elif stack and (begin := stack.pop()) in opened and text[begin + 1 : brace.start()].strip():
            found.append((opened[begin], begin + 1, brace.start()))
    return sorted(found)
