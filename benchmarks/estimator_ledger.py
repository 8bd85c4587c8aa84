"""What `benchmarks.estimator` has measured so far, one JSON object per line, so that a run can be taken up again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unveil.diagnostics.estimator_variance import Draws, Measured, Strata
from unveil.diagnostics.gradient_moments import GradientMoments
from unveil.diagnostics.variance_split import Split
from unveil.errors import UserError
from unveil.files import write_text

_DIGITS = 7


class Ledger:
    """The first line says what is measured on what; each further line is one `Measured`. Without a folder, a list."""

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        self.path = None if folder is None else folder / "measured.jsonl"
        self.lines = [json.dumps(settings, sort_keys=True)]
        self.known: dict[Draws, Measured] = {}
        if self.path is None or not self.path.exists():
            return
        first, *rest = self.path.read_text(encoding="utf-8").splitlines() or [""]
        if first != self.lines[0]:
            raise UserError(f"--output_dir {folder}: holds measurements of other settings; give another folder")
        for line in rest:
            found = from_json(json.loads(line))
            self.known[found.draws] = found
        self.lines += rest

    def add(self, found: Measured) -> None:
        """Keep it, also on disk."""
        self.known[found.draws] = found
        self.lines.append(json.dumps(as_json(found)))
        if self.path is not None:
            write_text(self.path, "\n".join(self.lines) + "\n")


def as_json(found: Measured) -> dict[str, Any]:
    """Plain lists, seven digits."""
    return {
        "draws": found.draws._asdict(),
        "combiners": found.combiners,
        "forwards": found.forwards,
        "elbo": _rounded(found.elbo_CNR),
        "margin": _rounded(found.margin_CNR),
        "split": found.split,
        "strata": None if found.strata is None else [v if v is None else _rounded(v) for v in found.strata],
        "gradient": None if found.gradient is None else [_rounded(v) for v in found.gradient],
    }


def from_json(line: Mapping[str, Any]) -> Measured:
    """Back to arrays."""
    strata, split, gradient = line["strata"], line["split"], line["gradient"]
    return Measured(
        Draws(**line["draws"]),
        tuple(line["combiners"]),
        line["forwards"],
        np.array(line["elbo"]),
        np.array(line["margin"]),
        (Split(*split[0]), Split(*split[1])) if split else None,
        Strata(*(None if v is None else np.array(v) for v in strata)) if strata else None,  # type: ignore[arg-type]
        GradientMoments(*(np.array(v) for v in gradient)) if gradient else None,
    )


def _rounded(values: np.ndarray) -> Any:
    if values.ndim > 1:
        return [_rounded(part) for part in values]
    return [float(f"{value:.{_DIGITS}g}") for value in values]
