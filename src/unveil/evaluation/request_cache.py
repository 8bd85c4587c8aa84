"""What was answered already: one JSON line per request, named by everything that its answer depends on.

The name is a digest of the model's identity, the settings and the tokens, so that a line serves any later run that asks
the same, and no other. Lines of another identity stay in the file and are told of. Lines are appended and forced to the
disk after each group of requests; a run that was cut off loses at most one group, and a line cut short is left out.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unveil.checksums import opened, sealed
from unveil.errors import warn_user
from unveil.files import append_text, read_whole_lines


class RequestCache:
    """Answers by name, in a file (or in memory only, without one).

    Args:
        path: file of JSON lines, made if it is not there.
        identity: names the model and how it computes: weights, tokenizer, precision, device, attention, estimator.
    """

    def __init__(self, path: str | Path | None = None, identity: str = "") -> None:
        self.path = None if path is None else Path(path)
        self.identity = identity
        self._by = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.hits = 0
        self.computed = 0
        self._records: dict[str, dict[str, Any]] = {}
        if self.path is not None and self.path.exists():
            self._read(self.path)

    def key(self, kind: str, settings: Mapping[str, Any], *content: Any) -> str:
        """The name of a request."""
        text = json.dumps([kind, self.identity, dict(settings), content], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer under a name, if it is known."""
        return self._records.get(key)

    def add(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep answers, by name, and write them at once."""
        fresh = {key: dict(value) for key, value in records.items() if key not in self._records}
        self._records.update(fresh)
        self.computed += len(fresh)
        if self.path is None or not fresh:
            return
        lines = "".join(
            json.dumps(sealed({"key": key, "by": self._by, **value}), ensure_ascii=False, allow_nan=False) + "\n"
            for key, value in fresh.items()
        )
        append_text(self.path, lines)

    def _read(self, path: Path) -> None:
        bad = foreign = 0
        for line in read_whole_lines(path, mend=True)[0]:
            try:
                record = opened(json.loads(line))
                foreign += record.pop("by", None) != self._by
                self._records[record.pop("key")] = record
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                bad += bool(line.strip())
        if bad:
            warn_user(f"{path}: {bad} lines are damaged and are computed again")
        if foreign:
            warn_user(
                f"{path}: {foreign} requests were answered by another model, precision, device, attention or version "
                "of the estimator; they are computed again"
            )
