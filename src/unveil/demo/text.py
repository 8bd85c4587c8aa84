"""The one normal form of every text of the demo: ASCII, lower case, one space, punctuation where a writer puts it.

The sources disagree about everything that does not matter here (`''quotes''`, lost dashes, spaces before commas,
accents). A 3M-parameter model should not spend itself on that, and splits by the hash of the text need one spelling.
"""

import re
import unicodedata

DOMAINS = ("film", "product", "text")
PROMPT_WORDS = 3
MIN_WORDS = 6
RUN_LENGTH = 8

_PUNCTUATION = str.maketrans(
    {"‘": "'", "’": "'", "`": "'", "“": '"', "”": '"', "–": " - ", "—": " - ", "æ": "ae", "½": " 1/2"}
    | {"\x12": "'", "\x13": '"', "\x14": '"', "\x16": " - ", "\x05": " - "}  # cp1252 marks that lost their high bit
)
_TAG_INSIDE = re.compile(rf"\b({'|'.join(DOMAINS)}):")


def tag(domain: str) -> str:
    """`film:`; one token of the demo's tokenizer, which never occurs inside a normalised text."""
    return f"{domain}:"


def normalise(text: str) -> str:
    """The normal form of one sentence or snippet; idempotent."""
    text = re.sub(r"``|''", '"', text).translate(_PUNCTUATION).replace("''", '"')
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    text = re.sub(r"[^ -~]", " ", text)
    text = re.sub(r" {3,}|-{2,}", " - ", text.strip())  # the film file has four spaces where a dash was
    text = re.sub(r"(\. ?){3,}", "... ", text)
    text = " ".join(text.split())
    text = _place_quotes(text)
    text = re.sub(r"([(\[]) +", r"\1", text)
    text = re.sub(r" +([,;:!?%)\]]|\.(?!\d))", r"\1", text)
    text = _TAG_INSIDE.sub(r"\1 -", text)
    text = re.sub(r"^(- )+|( -)+$", "", text)
    return " ".join(text.split())


def _place_quotes(text: str) -> str:
    """`a " b , " c` -> `a "b ," c`; an odd mark has no partner, so all are dropped."""
    parts = text.split('"')
    if len(parts) % 2 == 0:
        return " ".join(part.strip() for part in parts)
    pieces = [parts[0]]
    for i in range(1, len(parts), 2):
        before, after = pieces[-1].rstrip(), parts[i + 1]
        pieces[-1] = before if not before or before[-1] in "([" else before + " "
        pieces.append(f'"{parts[i].strip()}"')
        pieces.append(" " + after if after[:1].isalnum() else after)
    return "".join(pieces)


def words(text: str) -> list[str]:
    """Words without punctuation, for counting and for comparing texts."""
    return re.findall(r"[a-z0-9']+", text)


def runs(text: str) -> set[tuple[str, ...]]:
    """The text's runs of eight words (a shorter text is one run): two texts that share one are taken for copies."""
    found = words(text)
    return {tuple(found[i : i + RUN_LENGTH]) for i in range(max(1, len(found) - RUN_LENGTH + 1))}


def as_row(domain: str, text: str) -> dict[str, str]:
    """A normalised text as prompt (tag and first three words) and completion (the rest, with its leading space)."""
    start = text.split(" ", PROMPT_WORDS)
    head, rest = start[:PROMPT_WORDS], start[PROMPT_WORDS]
    return {"prompt": " ".join([tag(domain), *head]), "completion": " " + rest}


def without_tag(text: str) -> str:
    """`film: the story is told` -> `the story is told`."""
    first, _, rest = text.partition(" ")
    return rest if first[:-1] in DOMAINS and first.endswith(":") else text
