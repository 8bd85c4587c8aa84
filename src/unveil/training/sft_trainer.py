"""Masked-diffusion fine-tuning: minimises -B / L, the negative ELBO per scored token (LLaDA, arXiv 2502.09992).

The special case of the two-pass gradient in which every weight is known beforehand, so pass 1 is not needed.
"""

from typing import Any

import torch

from unveil.likelihood import combine
from unveil.training.config import SFTConfig
from unveil.training.micro_batch import MicroBatch
from unveil.training.reference import row_sums_of
from unveil.training.surrogate_trainer import EVALUATION_EPOCH, SurrogateTrainer


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
        surrogates = combine(row_sums, batch.plans).values
        # The trainer averages the loss over ranks and sums it over the micro-batches of a step.
        batch.loss = float((batch.row_weights * row_sums).sum()) * self.args.world_size
        if not torch.isfinite(surrogates).all():
            # Ranks see different rows here; the run ends wherever the first bad number turns up.
            self.stop_if_not_finite([r.example_id for r in batch.responses], surrogates)

    def evaluation_metrics(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        """`loss` (mean over answers of -B / L) and `nelbo_per_token` (sum of -B over sum of L), nats."""
        records = []
        for part in self.my_share(rows):
            batch = self.prepare(part, EVALUATION_EPOCH, self.draws_in(EVALUATION_EPOCH))
            values = combine(row_sums_of(batch, self.without_graph(batch)), batch.plans).values
            records += [(r.example_id, r.length, float(v)) for r, v in zip(batch.responses, values)]
        unique = {record[0]: record for record in self.gathered(records)}.values()
        return {
            "loss": -sum(value / length for _, length, value in unique) / len(unique),
            "nelbo_per_token": -sum(value for *_, value in unique) / sum(length for _, length, _ in unique),
        }
