"""The surrogate log-likelihood of a response and its uncertainty. Knows nothing of preferences."""

from unveil.likelihood.packing import PackedRows, micro_batches, pack
from unveil.likelihood.rows import Response, Row, build_rows
from unveil.likelihood.scorer import (
    DEFAULT_TOKENS_PER_BATCH,
    Surrogates,
    combine,
    row_values,
    row_values_without_graph,
    score,
)
from unveil.likelihood.uncertainty import standard_error

__all__ = [
    "DEFAULT_TOKENS_PER_BATCH",
    "PackedRows",
    "Response",
    "Row",
    "Surrogates",
    "build_rows",
    "combine",
    "micro_batches",
    "pack",
    "row_values",
    "row_values_without_graph",
    "score",
    "standard_error",
]
