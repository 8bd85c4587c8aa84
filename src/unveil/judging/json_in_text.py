"""JSON values anywhere in a text, found in time in proportion to its length."""

import json
import re
from collections.abc import Iterator
from typing import Any

_STEPS_PER_LETTER = 16


def json_values(text: str, opening: str = "{[") -> Iterator[tuple[int, int, Any]]:
    """Start, end and value of every outermost JSON value that begins with one of the letters `opening`.

    Line breaks inside strings are forgiven. Where brackets open without end, each is tried in turn, and reading stops
    after a number of steps in proportion to the text: what follows is no JSON then. So are brackets nested deeper than
    Python's stack, and numbers longer than it reads.
    """
    decoder, begins = json.JSONDecoder(strict=False), re.compile(f"[{re.escape(opening)}]")
    left = _STEPS_PER_LETTER * (len(text) + 1000)
    found = begins.search(text)
    while found and left > 0:
        place = found.start()
        try:
            value, stop = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            left -= error.pos - place
            stop = place + 1
        except (ValueError, RecursionError):
            left -= len(text) - place
            stop = place + 1
        else:
            yield place, stop, value
        found = begins.search(text, stop)
