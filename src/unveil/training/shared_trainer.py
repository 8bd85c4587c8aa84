"""What the processes of a run share: the rows of every step, held-out rows, and passes in which all take part."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader

from unveil.errors import UserError, warn_user
from unveil.likelihood import PackedRows, pack
from unveil.objectives import PositionWeights
from unveil.training.logged_trainer import LoggedTrainer
from unveil.training.micro_batch import MicroBatch
from unveil.training.shared_batches import device_steps_of, loader_of

# The draws of held-out answers: fixed, and of no training epoch.
EVALUATION_EPOCH = -1


class SharedTrainer(LoggedTrainer):
    """Several processes compute what one would, at every step; a rank without rows takes part all the same."""

    _spare: PackedRows | None = None

    @property
    def lone_row_joins(self) -> bool:
        """Whether a last optimizer step of one row joins the one before."""
        return False

    def get_train_dataloader(self) -> DataLoader:
        """Load this process's share of every device step."""
        dataset: Any = self.train_dataset
        if dataset is None:
            raise UserError("train_dataset: training needs rows; give some")
        order: Any = self._get_train_sampler(dataset)
        loader = loader_of(dataset, order, self.args, self.lone_row_joins)
        if self.args.process_index == 0 and len(loader) < device_steps_of(len(dataset), self.args):
            warn_user(
                f"--per_device_train_batch_size: of {len(dataset)} rows one would be left for the last step, and be "
                "its own baseline; it joins the step before"
            )
        return loader

    def prepare(
        self,
        rows: Sequence[dict[str, Any]],
        epoch: int,
        num_draws: int | None = None,
        weighting: PositionWeights | None = None,
    ) -> MicroBatch:
        """Plan the draws of a device batch and pack its rows."""
        raise NotImplementedError

    def draws_in(self, epoch: int) -> int:
        """Draws per answer: those of training, or of evaluation."""
        held_out = self.args.eval_num_draws if epoch == EVALUATION_EPOCH else None
        return held_out or self.args.num_draws

    def held_out_batches(
        self, rows: Sequence[dict[str, Any]], weighting: PositionWeights | None = None
    ) -> Iterator[tuple[list[int], MicroBatch]]:
        """This rank's share of held-out rows, batch by batch, with their numbers among `rows`.

        Every row is in one share; every rank gets as many batches, of which the last may be empty.
        """
        size, world = self.args.per_device_eval_batch_size, self.args.world_size
        mine = range(self.args.process_index, len(rows), world)
        self.spare_part(rows)
        for number in range(math.ceil(len(rows) / (size * world))):
            numbers = list(mine[number * size : (number + 1) * size])
            given = [rows[i] for i in numbers]
            batch = self.prepare(given, EVALUATION_EPOCH, self.draws_in(EVALUATION_EPOCH), weighting)
            self.even_out([batch])
            yield numbers, batch

    def even_out(self, batches: Sequence[MicroBatch]) -> None:
        """Make every rank run as many passes without graph as the busiest one: weights that are sharded, and buffers
        of the network, are exchanged in every pass. Call it on every rank with as many batches."""
        if self.args.world_size == 1:
            return
        by_rank = self.gathered([[len(batch.packed) for batch in batches]])
        for batch, counts in zip(batches, zip(*by_rank, strict=True), strict=True):
            missing = max(counts) - len(batch.packed)
            batch.idle = [self.spare_part(batch.rows)] * missing if missing else []

    def spare_part(self, rows: Sequence[dict[str, Any]]) -> PackedRows:
        """One row for passes that count for nothing: of these rows, or of the training data."""
        if self._spare is None:
            some: Any = rows or self.train_dataset
            self._spare = pack(self.prepare([some[0]], 0).draws, [0], self.args.device)
        return self._spare
