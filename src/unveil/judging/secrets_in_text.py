"""Keys and passwords do not appear in what is kept, told or raised, whoever sends them back."""

import base64
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote, urlsplit, urlunsplit

SHOWN = "[secret]"
_SHORTEST = 8  # a stand-in such as "none" or "k" is no secret, and may be part of any word


class Secrets:
    """Texts that must not be shown, in every form in which a server may send them back."""

    def __init__(self, texts: Iterable[str | None]) -> None:
        forms: set[str] = set()
        for text in texts:
            if text and len(text) >= _SHORTEST:
                forms |= _forms(text)
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if forms else None

    def hide(self, text: str) -> str:
        """`text` with every secret replaced by `[secret]`."""
        return self._pattern.sub(SHOWN, text) if self._pattern else text


def _forms(text: str) -> set[str]:
    """As it is, percent-encoded, and in base64 (the part that does not depend on what stands around it)."""
    forms = {text, quote(text, safe=""), quote(text), quote_plus(text)}
    raw = text.encode("utf-8", "replace")
    for shift in range(3):
        # Within a longer text a byte begins at one of three places of four letters; the letters at the ends mix.
        whole = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        inner = whole[(0, 2, 3)[shift] : len(whole) if (shift + len(raw)) % 3 == 0 else -1]
        if len(inner) >= _SHORTEST:
            forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return forms


def without_credentials(url: str) -> tuple[str, tuple[str, str] | None]:
    """An address without `user:password@`, and the two (None: there are none)."""
    parts = urlsplit(url)
    user_info, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = user_info.partition(":")
    return urlunsplit(parts._replace(netloc=host)), (unquote(user), unquote(password))
