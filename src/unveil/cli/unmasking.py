"""Canvases in the terminal while they are filled. Where there is no terminal, nothing is drawn."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from unveil.generation import Observer, Step
from unveil.terminal import printable

MASK = "░"
_MOST_ROWS = 8
_STYLES = {"old": "", "new": "bold green", "masked": "dim"}


def canvas_text(
    tokenizer: PreTrainedTokenizerBase,
    tokens: Sequence[int],
    masked: Sequence[bool],
    fresh: Sequence[bool],
    ends: frozenset[int],
) -> Text:
    """One canvas: masks as shades, what this step revealed in bold; nothing after the first settled end token."""
    kinds = ["masked" if m else "new" if f else "old" for m, f in zip(masked, fresh, strict=True)]
    shown = list(zip(kinds, tokens, strict=True))
    end = next((place for place, (kind, token) in enumerate(shown) if kind != "masked" and token in ends), len(shown))
    text = Text()
    for kind, part in groupby(shown[:end], key=lambda pair: pair[0]):
        ids = [token for _, token in part]
        words = MASK * len(ids) if kind == "masked" else str(tokenizer.decode(ids, skip_special_tokens=True))
        text.append(printable(words), style=_STYLES[kind])
    return text


@contextmanager
def live_canvases(
    tokenizer: PreTrainedTokenizerBase,
    titles: Sequence[str],
    ends: Sequence[int],
    console: Console | None = None,
) -> Iterator[Observer | None]:
    """An observer for `generate` that redraws the first rows of the batch at every step; None without a terminal.

    titles: of each prompt. The drawing disappears at the end: the answers are printed by whoever asked for them.
    """
    console = console or Console()
    if not console.is_terminal:
        yield None
        return
    end_ids = frozenset(ends)
    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield _drawer(live, tokenizer, titles, end_ids)


def _drawer(
    live: Live, tokenizer: PreTrainedTokenizerBase, titles: Sequence[str], ends: frozenset[int]
) -> Callable[[Step], None]:
    def draw(step: Step) -> None:
        count = min(_MOST_ROWS, len(step.rows))
        tokens, masked = step.tokens[:count].tolist(), step.masked[:count].tolist()
        fresh = [[False] * len(row) for row in tokens]
        for row, position in zip(step.row.tolist(), step.position.tolist(), strict=True):
            if row < count:
                fresh[row][position] = True
        parts = []
        for number in range(count):
            if titles[step.rows[number]]:
                parts.append(Text(printable(titles[step.rows[number]]), style="cyan"))
            parts.append(canvas_text(tokenizer, tokens[number], masked[number], fresh[number], ends))
        if len(step.rows) > count:
            parts.append(Text(f"... and {len(step.rows) - count} more", style="dim"))
        live.update(Group(*parts), refresh=True)

    return draw
