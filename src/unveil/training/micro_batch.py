"""A device batch between the passes: its answers, their draws as packed rows, and what each row weighs in the loss.

A dataset row is a thumb or a prompt with its candidates; either way its answers stay together, so no list is ever
split, and one answer gives one surrogate `B = sum_k W_k S(M_k)`, with W_k from the draw plan and
`S(M) = sum_{i in M} a_i log p_i` over the hidden tokens of one row (a_i = 1 but for position weights, other combiners
and nonlinear surrogates).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from unveil.data import ld_weights
from unveil.draws import Plan
from unveil.likelihood import PackedRows, Response, Row, pack, split_by_tokens, token_weights
from unveil.objectives import PositionWeights


@dataclass
class MicroBatch:
    """The answers of one device batch; row r of `draws` is draw `draws[r].draw` of answer `draws[r].response`."""

    rows: list[dict[str, Any]]
    responses: list[Response]
    groups: list[int]
    """The dataset row of each answer, counted from 0 within the batch."""
    plans: list[Plan]
    draws: list[Row]
    packed: list[PackedRows]
    lengths: list[int]
    """Scored tokens of each answer (those of its span, where an item of an answer is scored)."""
    token_weights: list[np.ndarray] | None = None
    """a_i of each row, one array per row; None: all 1."""
    row_weights: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))
    """d loss / d S of each row, `[num_rows]`; set between the passes."""
    loss: float = 0.0
    seen: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    """Surrogates that pass 1 computed on these rows, `[answers]`; empty where pass 1 ran on others or not at all."""
    kept: dict[int, torch.Tensor] = field(default_factory=dict)
    """log p of hidden tokens with their graph, by the number of the packed part."""
    first: "MicroBatch | None" = None
    """The rows of pass 1 where it draws more often than the gradient."""
    idle: list[PackedRows] = field(default_factory=list)
    """Parts that count for nothing: other ranks have more, and a sharded network is run by all ranks together."""
    position_weights: list[Any] | None = None
    """Weights of the scored tokens of each answer (None: all 1); `token_weights` holds them already."""

    @property
    def num_rows(self) -> int:
        """Rows in all: forward passes of one sequence."""
        return len(self.draws)

    @property
    def draws_per_answer(self) -> list[int]:
        """K of each answer."""
        return [len(plan.weights) for plan in self.plans]

    def row_sums(self, packed: PackedRows, log_p_N: torch.Tensor) -> torch.Tensor:
        """`S(M)` of the packed rows `[R]`, nats."""
        if self.token_weights is not None:
            log_p_N = log_p_N * packed.in_stream(self.token_weights).to(log_p_N)
        return packed.row_sums(log_p_N)

    def coefficients(self, packed: PackedRows) -> torch.Tensor:
        """d loss / d log p of every hidden token of the stream, float64 `[N]`."""
        per_row = self.row_weights[packed.order]
        counts = torch.tensor(packed.hidden_counts)
        found = torch.repeat_interleave(per_row, counts).to(packed.index_N.device)
        return found if self.token_weights is None else found * packed.in_stream(self.token_weights)

    def weigh_answers(self, slopes: Sequence[float]) -> None:
        """Set the row weights from d loss / d B of each answer."""
        self.row_weights = torch.tensor(
            [g * w for g, plan in zip(slopes, self.plans, strict=True) for w in plan.weights], dtype=torch.float64
        )

    def weigh_draws(self, slopes: Sequence[Sequence[float]]) -> None:
        """Set the row weights from d loss / d (share-free estimate of each draw), answer by answer."""
        self.row_weights = torch.tensor(
            [
                g * w / share
                for of_draws, plan in zip(slopes, self.plans, strict=True)
                for g, w, share in zip(of_draws, plan.weights, plan.shares, strict=True)
            ],
            dtype=torch.float64,
        )

    def append(self, other: "MicroBatch") -> None:
        """Add answers whose weights are known; their rows run in packed parts of their own."""
        if self.token_weights is not None or other.token_weights is not None:
            self.token_weights = [*self._all_token_weights(), *other._all_token_weights()]
        self.packed = self.packed + [part.moved(self.num_rows) for part in other.packed]
        self.row_weights = torch.cat([self.row_weights, other.row_weights])
        self.draws = self.draws + other.draws
        self.responses = self.responses + other.responses
        self.plans = self.plans + other.plans
        self.lengths = self.lengths + other.lengths

    def _all_token_weights(self) -> list[np.ndarray]:
        return self.token_weights or [np.ones(len(row.places)) for row in self.draws]

    def drop_weightless(self, tokens_per_batch: int, device: torch.device) -> None:
        """Pack again without rows of weight exactly 0, which cost no second pass; parts with a graph stay as they
        are."""
        kept = {number: self.packed[number] for number in self.kept}
        rest = [row for number, part in enumerate(self.packed) if number not in kept for row in part.order]
        live = [row for row in rest if self.row_weights[row] != 0]
        if len(live) == len(rest):
            return
        groups = split_by_tokens([self.draws[row].length for row in live], tokens_per_batch)
        parts = [pack(self.draws, [live[i] for i in group], device) for group in groups]
        self.packed = [*kept.values(), *parts]
        self.kept = {place: self.kept[number] for place, number in enumerate(kept)}


def responses_of(row: dict[str, Any]) -> list[Response]:
    """The answers of a dataset row: one thumb, or the candidates of a prompt."""
    return [Response.from_row(one) for one in row.get("responses") or [row]]


def position_weights_of(
    row: dict[str, Any], responses: Sequence[Response], wanted: PositionWeights | None
) -> list[Any] | None:
    """Weights of the scored tokens of each answer (`[L]` each), or None: all 1. Those of the data and of the lengths
    multiply."""
    given = row.get("position_weights")
    if wanted is None or wanted.kind != "ld":
        return given
    by_length = ld_weights([response.length for response in responses], wanted.alpha)
    return by_length if given is None else [np.asarray(mine) * theirs for mine, theirs in zip(given, by_length)]


def token_weights_of(
    plans: Sequence[Plan], responses: Sequence[Response], combiner: str, position_weights: Sequence[Any] | None
) -> list[np.ndarray] | None:
    """a_i of every row: the combiner's weight of each token over the draw's W_k; None where all are 1."""
    if combiner == "ht" and position_weights is None:
        return None
    given = position_weights or [None] * len(responses)
    return [
        weights / whole
        for plan, response, by_place in zip(plans, responses, given, strict=True)
        for weights, whole in zip(token_weights(plan, response.length, combiner, by_place), plan.weights)
    ]
