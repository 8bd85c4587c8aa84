"""The surrogate log-likelihood of a response and its uncertainty. Knows nothing of preferences."""

from unveil.likelihood.canonical import CANONICAL_TOKENS, canonical_batches
from unveil.likelihood.combiners import COMBINERS, check_combiner, token_weights
from unveil.likelihood.comparison_surrogates import Combined, eubo, holder, mixture
from unveil.likelihood.head import WeightedLogProbs, hidden_log_probs, weighted_log_probs
from unveil.likelihood.packing import PackedRows, longest_row, micro_batches, pack, split_by_tokens
from unveil.likelihood.rows import Response, Row, build_rows
from unveil.likelihood.scorer import (
    DEFAULT_TOKENS_PER_BATCH,
    Surrogates,
    combine,
    row_values,
    row_values_without_graph,
    score,
)
from unveil.likelihood.uncertainty import degrees_of_freedom, half_width, standard_error

__all__ = [
    "CANONICAL_TOKENS",
    "COMBINERS",
    "DEFAULT_TOKENS_PER_BATCH",
    "Combined",
    "PackedRows",
    "Response",
    "Row",
    "Surrogates",
    "WeightedLogProbs",
    "build_rows",
    "canonical_batches",
    "check_combiner",
    "combine",
    "degrees_of_freedom",
    "eubo",
    "half_width",
    "hidden_log_probs",
    "holder",
    "longest_row",
    "micro_batches",
    "mixture",
    "pack",
    "row_values",
    "row_values_without_graph",
    "score",
    "split_by_tokens",
    "standard_error",
    "token_weights",
    "weighted_log_probs",
]
