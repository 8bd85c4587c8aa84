"""A page holds everything in itself, and shows every text as it is."""

import base64
import re

import pytest
from jinja2 import UndefinedError

from unveil.report import (
    Bullets,
    Gallery,
    Opinion,
    Pairs,
    Paragraph,
    Picture,
    Reading,
    Readings,
    Samples,
    Section,
    SideBySide,
    Table,
    curves,
    page,
)

READINGS = Readings(("A", "B"), [
    Reading("pair 3", "say <i>", ("two\nlines", " "), [
        Opinion("jo", "A", 0, [("A first, A", "it is <b>good</b>")]), Opinion("ann", "tie", None),
    ]),
])  # fmt: skip
PNG = curves([1, 2], {"up": [0.0, 1.0]}, axis="nats")
EVERYTHING = [
    Paragraph("run `unveil demo`"),
    Bullets([("Judge.", "It reads.")]),
    Table(["a", "b"], [("one", "1"), ("two", "2"), ("three", "3")], [True, False, None]),
    Pairs("Settings", [("beta", "0.1", "inverse temperature")]),
    Gallery([Picture(PNG, "Curve", "what it shows")]),
    Samples(("base", "aligned"), [SideBySide("film: the", (" end", " start"), ("rating 1", "rating 2"), 1)]),
    READINGS,
]


def html(*blocks) -> str:
    return page("Title", "subtitle", [Section("Section", blocks)], "footer")


def test_nothing_is_fetched_from_anywhere():
    text = html(*EVERYTHING)
    assert not re.search(r"https?:|<link|<script|@import|url\(|srcset|<iframe", text)
    assert re.findall(r'src="([^"]*)"', text) == ["data:image/png;base64," + base64.b64encode(PNG).decode()]


def test_texts_are_escaped():
    text = html(Paragraph("<script>alert(1)</script> & `<b>`"), Samples(("a", "b"), [
        SideBySide("<i>", ("<u>", "x"), ("", ""), None)
    ]))  # fmt: skip
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; <code>&lt;b&gt;</code>" in text
    assert "&lt;i&gt;" in text and "&lt;u&gt;" in text  # noqa: PT018


def test_marks_say_what_holds():
    text = html(EVERYTHING[2])
    assert text.count("✓ holds") == text.count("✗ does not hold") == 1


def test_only_the_winner_is_marked():
    text = html(EVERYTHING[5])
    assert text.count("preferred") == text.count('class="won"') == 1
    assert text.index("rating 1") < text.index('class="won"') < text.index("rating 2")
    assert "preferred" not in html(Samples(("a", "b"), [SideBySide("s", ("x", "y"), ("", ""), None)]))


def test_every_tag_is_closed():
    text = html(*EVERYTHING)
    for tag in (
        "section",
        "table",
        "tbody",
        "thead",
        "tr",
        "td",
        "th",
        "figure",
        "ul",
        "li",
        "details",
        "p",
        "span",
        "article",
        "pre",
        "div",
    ):
        assert len(re.findall(rf"<{tag}[ >]", text)) == text.count(f"</{tag}>"), tag


def test_a_reading_shows_both_answers_as_they_are_and_every_opinion():
    text = html(READINGS)
    assert "<pre>two\nlines</pre>" in text
    assert text.count("says nothing") == 1
    assert "say &lt;i&gt;" in text
    assert "it is &lt;b&gt;good&lt;/b&gt;" in text
    assert '<td class="side0">A</td>' in text
    assert "<td>tie</td>" in text


def test_a_block_of_no_known_kind_is_an_error():
    with pytest.raises(UndefinedError):
        html(object())
