"""A report as one HTML file: styles and pictures are inside, nothing is fetched from anywhere."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape


@dataclass(frozen=True)
class Paragraph:
    """A block of text."""

    kind: ClassVar[str] = "paragraph"
    text: str
    strong: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list; each item is a short heading and a sentence."""

    kind: ClassVar[str] = "bullets"
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows of text under headings. `marks`: per row True (a condition holds), False (it does not) or None."""

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    marks: Sequence[bool | None] | None = None


@dataclass(frozen=True)
class Pairs:
    """Names and values in compact columns, as for settings; `folded` hides them until asked."""

    kind: ClassVar[str] = "pairs"
    title: str
    rows: Sequence[tuple[str, str, str]]
    folded: bool = True


@dataclass(frozen=True)
class Picture:
    """A PNG with what it shows."""

    png: bytes
    title: str
    caption: str

    @property
    def source(self) -> str:
        """The file itself, as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class Gallery:
    """Pictures in a grid."""

    kind: ClassVar[str] = "gallery"
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class SideBySide:
    """Two continuations of the same beginning, with a note each; `winner` is 0, 1 or None."""

    start: str
    texts: tuple[str, str]
    notes: tuple[str, str]
    winner: int | None


@dataclass(frozen=True)
class Samples:
    """A table of continuations."""

    kind: ClassVar[str] = "samples"
    names: tuple[str, str]
    rows: Sequence[SideBySide]


@dataclass(frozen=True)
class Opinion:
    """What one judge says of a pair: its verdict in a word, and its reasons, each with a note of when it was given.

    side: 0 or 1 for the answer that it prefers, None for neither.
    """

    judge: str
    verdict: str
    side: int | None
    reasons: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Reading:
    """A prompt, two answers to it and what judges say; `mark` says why it is worth reading."""

    mark: str
    prompt: str
    answers: tuple[str, str]
    opinions: Sequence[Opinion]


@dataclass(frozen=True)
class Readings:
    """Pairs of answers to read, one after the other; texts keep their line breaks."""

    kind: ClassVar[str] = "readings"
    names: tuple[str, str]
    items: Sequence[Reading]


Block = Paragraph | Bullets | Table | Pairs | Gallery | Samples | Readings


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


def page(title: str, subtitle: str, sections: Sequence[Section], footer: str) -> str:
    """The whole HTML document; every text is escaped, `code` in prose is set as code."""
    return _template().render(title=title, subtitle=subtitle, sections=sections, footer=footer)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("unveil.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = _prose
    return environment.get_template("page.html")


def _prose(text: str) -> Markup:
    """Escaped text; what stands between backticks is code."""
    parts = str(text).split("`")
    pieces = [Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)]
    return Markup("").join(pieces)
