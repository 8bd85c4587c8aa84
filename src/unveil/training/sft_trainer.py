"""Masked-diffusion fine-tuning: minimises -B / L, the negative ELBO per scored token (LLaDA, arXiv 2502.09992).

The special case of the two-pass gradient in which every weight is known beforehand, so pass 1 is not needed.
"""

import math
from typing import Any

import torch

from unveil.likelihood import combine
from unveil.training.config import SFTConfig
from unveil.training.micro_batch import MicroBatch
from unveil.training.reference import row_sums_of
from unveil.training.surrogate_trainer import SurrogateTrainer


class SFTTrainer(SurrogateTrainer):
    """`SFTTrainer(model, args, train_dataset, eval_dataset, processing_class)` over tokenised responses."""

    args: SFTConfig
    _name = "SFT"
    kind = "sft"

    def weigh(self, batches: list[MicroBatch]) -> None:
        total = sum(self.gathered([sum(len(batch.responses) for batch in batches)]))
        for batch in batches:
            batch.weigh_answers([-1.0 / (total * response.length) for response in batch.responses])

    def after_second_pass(self, batch: MicroBatch, row_sums: torch.Tensor) -> None:
        counted = batch.row_weights != 0  # the others were skipped
        terms = (batch.row_weights * row_sums)[counted]
        # The trainer averages the loss over ranks and sums it over the micro-batches of a step.
        batch.loss = float(terms.sum()) * self.args.world_size
        owners = [batch.responses[row.response].example_id for row in batch.draws]
        bad = [owners[row] for row in counted.nonzero()[:, 0].tolist() if not row_sums[row].isfinite()]
        bad = self.gathered(sorted(set(bad)))  # every rank stops together
        self.stop_if_not_finite(bad, [math.nan] * len(bad))

    def evaluation_metrics(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        """`loss` (mean over answers of -B / L) and `nelbo_per_token` (sum of -B over sum of L), nats."""
        found: list[tuple[int, int, float]] = []
        for numbers, batch in self.held_out_batches(rows):
            values = combine(row_sums_of(batch, self.without_graph(batch)), batch.plans).values
            found += zip(numbers, [response.length for response in batch.responses], values.tolist())
        records = sorted(self.gathered(found))
        return {
            "loss": -sum(value / length for _, length, value in records) / len(records),
            "nelbo_per_token": -sum(value for *_, value in records) / sum(length for _, length, _ in records),
        }
