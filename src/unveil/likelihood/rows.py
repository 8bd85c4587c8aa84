"""A row is (response, draw): one masked copy of prompt + answer + visible tail, and what is asked of it.

Rows are never padded. Hidden positions come from the draw plan, never from comparing ids with the mask id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unveil.draws import Plan


@dataclass(frozen=True)
class Response:
    """One tokenised answer: the model sees prompt, completion and tail; only the completion is scored."""

    example_id: int
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    tail_ids: Sequence[int] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Response":
        """Read the columns that `unveil.data.tokenize_responses` writes."""
        return cls(row["example_id"], row["prompt_ids"], row["completion_ids"], row.get("tail_ids") or ())

    @property
    def length(self) -> int:
        """Number of scored tokens L."""
        return len(self.completion_ids)


@dataclass(frozen=True)
class Row:
    """One forward pass of one sequence: masked ids `[T]`, hidden places `[l]`, the true tokens there `[l]`."""

    ids: np.ndarray
    places: np.ndarray
    targets: np.ndarray
    response: int
    draw: int

    @property
    def length(self) -> int:
        """Number of tokens T that the model reads."""
        return len(self.ids)


def build_rows(responses: Sequence[Response], plans: Sequence[Plan], mask_token_id: int) -> list[Row]:
    """All rows of the responses under their plans, response by response, draw by draw.

    Args:
        responses: N responses, each with at least one scored token.
        plans: their N draw plans.
        mask_token_id: id that hides a token (`Denoiser.mask_token_id`).

    Raises:
        ValueError: a plan was drawn for another length; it would hide prompt or tail tokens, or miss scored ones.
    """
    rows = []
    for index, (response, plan) in enumerate(zip(responses, plans, strict=True)):
        _check_length(response, plan)
        start = len(response.prompt_ids)
        ids = np.array([*response.prompt_ids, *response.completion_ids, *response.tail_ids], dtype=np.int64)
        for draw, positions in enumerate(plan.positions):
            places = start + positions
            masked = ids.copy()
            masked[places] = mask_token_id
            if plan.also_hidden:
                masked[start + plan.also_hidden[draw]] = mask_token_id
            rows.append(Row(masked, places, ids[places], index, draw))
    return rows


def _check_length(response: Response, plan: Plan) -> None:
    """A plan fits one length only, the L of its weights `share * L / l`."""
    planned = round(plan.weights[0] / plan.shares[0] * len(plan.positions[0]))
    if planned != response.length:
        raise ValueError(
            f"example {response.example_id}: {response.length} scored tokens, but its plan was drawn for {planned}"
        )
