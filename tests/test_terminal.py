"""Text of any origin is shown on a terminal, not obeyed and not read as markup."""

import io

import pytest
from rich.table import Table

from unveil.terminal import PlainConsole, one_line, printable, say

ATTACKS = ["\x1b[2J", "\x1b]0;title\x07", "a\rb", "\x9b31m", "\x00", "\x7f", "\u202eabc", "\u2028", "\ud800", "\u2066"]


@pytest.mark.parametrize("text", ATTACKS, ids=ascii)
def test_what_a_terminal_would_obey_is_escaped(text):
    shown = printable(f"before {text} after")
    assert shown.encode()  # no half character
    assert all(c.isprintable() for c in shown)
    assert shown.startswith("before ")
    assert "\\" in shown


@pytest.mark.parametrize(
    "text", ["plain", "two\nlines\tand a tab", "café 東京 \u00a0\u3000", "👩‍👩‍👧 می‌خواهم", "[/x] [bold] :smile: \\x1b"]
)
def test_all_else_is_left_as_it_is(text):
    assert printable(text) == text


def test_one_line_is_one_line():
    assert one_line("a\nb\tc") == "a\\nb\\tc"


@pytest.mark.parametrize("text", ["[/x]", "[bold]x[/bold]", "[a-z]+", ":smile:", "[link=http://x]y[/link]"])
def test_a_table_shows_markup_as_it_was_written(text):
    written = io.StringIO()
    table = Table("head", text)
    table.add_row("cell", text)
    PlainConsole(file=written, width=100).print(table, text)
    assert written.getvalue().count(text) == 3


def test_no_escape_passes_through_a_table_or_a_line(capsys):
    written = io.StringIO()
    table = Table("\x1b[31mhead", title="\x1b[2Jtitle")
    table.add_row("\x1b]0;cell\x07")
    PlainConsole(file=written, width=100, force_terminal=False).print(table)
    say("an answer: \x1b[31m")
    assert "\x1b" not in written.getvalue() + capsys.readouterr().out
