"""`transformers.Trainer` for losses that are functions of ELBO surrogates: the two-pass exact gradient.

One optimizer step (all micro-batches of `get_batch_samples`, all ranks):

    pass 1  without graph, surrogates of the whole optimizer batch         -> subclasses: `weigh`
            autograd of the objective on that short vector                 -> one weight g_i per response
    pass 2  sum_i g_i B_i, one packed micro-batch of rows at a time        -> `training_step`

By the chain rule the gradient is exactly that of the one-pass loss. Memory depends neither on the number of draws nor
on the batch size.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import nn

from unveil.errors import UserError
from unveil.likelihood import (
    PackedRows,
    Row,
    build_rows,
    canonical_batches,
    hidden_log_probs,
    micro_batches,
    weighted_log_probs,
)
from unveil.models import Denoiser
from unveil.models.adapters import record_of_base, write_record
from unveil.objectives import PositionWeights
from unveil.training.divergence import GradientGuard, bad_rows, diverged, weights_are_finite
from unveil.training.draw_config import DrawConfig
from unveil.training.flop_count import FlopCount, work_of_parts
from unveil.training.memory import told_when_out_of_memory, warn_of_rows_beyond
from unveil.training.metrics_file import MetricsFile
from unveil.training.micro_batch import MicroBatch, position_weights_of, responses_of, token_weights_of
from unveil.training.reference import log_probs_without_graph
from unveil.training.row_skipping import joined, sizes_of, skip_rows
from unveil.training.shared_batches import collate
from unveil.training.shared_trainer import SharedTrainer


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout probability to 0, in layers, module attributes and configs: pass 1, pass 2 and the reference
    must compute one function."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for holder in (module, getattr(module, "config", None)):
            for name, value in list(vars(holder).items()) if holder is not None else ():
                if "dropout" in name and isinstance(value, float):
                    setattr(holder, name, 0.0)


class SurrogateTrainer(SharedTrainer):
    """Base of the trainers; a subclass says what each response weighs (`weigh`) and how to evaluate."""

    args: DrawConfig
    loss_is_scaled_for_ga = True
    _name = "SurrogateTrainer"

    def __init__(self, model: nn.Module, args: DrawConfig, **kwargs: Any) -> None:
        if args.n_gpu > 1:
            raise UserError(
                f"{args.n_gpu} GPUs are visible to one process; start one process per GPU with `accelerate launch`, or "
                "show one with CUDA_VISIBLE_DEVICES=0"
            )
        if args.disable_dropout:
            disable_dropout(model)
        collator: Any = collate
        super().__init__(model=model, args=args, data_collator=collator, **kwargs)
        self.policy = model
        self._base = record_of_base(model) if isinstance(model, PeftModel) else None
        self.denoiser = Denoiser(model)
        self.flop_count = FlopCount(model)
        self._tokens_to_keep = 0
        self._told_of_long_rows = False
        self.add_callback(MetricsFile())
        self.add_callback(GradientGuard())

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the weights; beside adapters, what tells whether their base is still the same."""
        super()._save(output_dir, state_dict)
        if self._base is not None:
            write_record(self._base, output_dir or str(self.args.output_dir))

    # -- pass 1 -----------------------------------------------------------------------------------------------------

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device):
        """Collect the optimizer batch and weigh its responses before any of them is back-propagated."""
        self.begin_step()
        collected, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        batches = [self.prepare_for_training(rows, self.draw_epoch()) for rows in collected]
        if batches:
            packed = [part for batch in batches for part in batch.packed]
            self._look_at_lengths(packed)
            self.even_out([batch.first or batch for batch in batches])
            self.use_wrapped_model()
            self._tokens_to_keep = self.tokens_to_keep()
            with told_when_out_of_memory(self.args.tokens_per_batch, packed):
                self.weigh(batches)
            self._tokens_to_keep = 0
            if self.args.row_budget < 1:
                self._skip_rows(batches)
        return batches, None

    def _skip_rows(self, batches: Sequence[MicroBatch]) -> None:
        whole = joined(self.gathered([sizes_of(batch) for batch in batches]))
        step = self.state.global_step + 1
        kept, cost = skip_rows(batches, whole, self.args.row_budget, self.args.plan_seed, step)
        if len(cost):
            self.record({"rows/tokens_kept": float((kept * cost).sum() / cost.sum())}, float(cost.sum()))

    def _look_at_lengths(self, packed: Sequence[PackedRows]) -> None:
        longest = max((max(part.segment_lengths) for part in packed), default=0)
        if longest > self.args.tokens_per_batch and not self._told_of_long_rows:
            self._told_of_long_rows = True
            warn_of_rows_beyond(self.args.tokens_per_batch, longest)

    def tokens_to_keep(self) -> int:
        """How many tokens of an optimizer batch keep their graph between the passes.

        Hooks of distributed training expect every forward to be followed by its backward, and recomputed activations
        or dropout would make the passes differ: none is kept there.
        """
        args = self.args
        if args.world_size > 1 or args.gradient_checkpointing or not args.disable_dropout:
            return 0
        return args.tokens_per_batch if args.kept_tokens is None else args.kept_tokens

    def use_wrapped_model(self) -> None:
        """Score with the wrapped model, so that distributed hooks fire and autocast applies."""
        wrapped: Any = self.model_wrapped
        self.denoiser.model = wrapped
        self.denoiser.model.eval()

    def draw_epoch(self) -> int:
        """The epoch whose draws training uses now."""
        return int(self.state.epoch or 0) if self.args.draws == "fresh" else 0

    def prepare_for_training(self, rows: Sequence[dict[str, Any]], epoch: int) -> MicroBatch:
        """A device batch of training rows."""
        return self.prepare(rows, epoch)

    def prepare(
        self,
        rows: Sequence[dict[str, Any]],
        epoch: int,
        num_draws: int | None = None,
        weighting: PositionWeights | None = None,
    ) -> MicroBatch:
        """Plan the draws of a device batch (`--num_draws` unless said otherwise) and pack its rows."""
        num_draws = num_draws or self.args.num_draws
        responses, groups, plans, lengths, by_place = [], [], [], [], []
        for number, row in enumerate(rows):
            members = responses_of(row)
            responses += members
            groups += [number] * len(members)
            size_id = row["example_id"] if self.args.share_sizes and len(members) > 1 else None
            plans += [self.args.plan_of(one.example_id, epoch, one.length, num_draws, size_id) for one in members]
            weights = position_weights_of(row, members, weighting)
            by_place += weights or [None] * len(members)
            spans = weighting is not None and weighting.kind == "spans"
            lengths += [
                int(np.count_nonzero(by_place[-len(members) + i])) if spans else response.length
                for i, response in enumerate(members)
            ]
        draws = build_rows(responses, plans, self.denoiser.mask_token_id)
        packed = self._packed(draws)
        weights = by_place if any(w is not None for w in by_place) else None
        tokens = token_weights_of(plans, responses, self.args.combiner, weights)
        return MicroBatch(
            list(rows), responses, groups, plans, draws, packed, lengths, tokens, position_weights=weights
        )

    def _packed(self, draws: Sequence[Row]) -> list[PackedRows]:
        if self.args.pack_by_answer:
            return canonical_batches(draws, self.args.device)
        return micro_batches(draws, self.args.tokens_per_batch, self.args.device)

    def weigh(self, batches: list[MicroBatch]) -> None:
        """Set the row weights and the `loss` of every micro-batch of the optimizer batch."""
        raise NotImplementedError

    def first_pass(self, batch: MicroBatch) -> list[torch.Tensor]:
        """log p of the hidden tokens of every packed part under the policy, on the CPU.

        Graphs are kept as far as `kept_tokens` goes.
        """
        found = []
        for part in batch.idle:
            with torch.no_grad():
                hidden_log_probs(self.denoiser, part)
        for number, packed in enumerate(batch.packed):
            keep = packed.num_tokens <= self._tokens_to_keep
            with torch.set_grad_enabled(keep):
                log_p_N = hidden_log_probs(self.denoiser, packed)
            if keep:
                self._tokens_to_keep -= packed.num_tokens
                batch.kept[number] = log_p_N
            found.append(log_p_N.detach().cpu())
        return found

    def without_graph(self, batch: MicroBatch) -> list[torch.Tensor]:
        """log p of the hidden tokens of every packed part under the policy, on the CPU."""
        return log_probs_without_graph(self.denoiser, batch)

    # -- pass 2 -----------------------------------------------------------------------------------------------------

    def training_step(self, model: nn.Module, inputs: MicroBatch, num_items_in_batch=None) -> torch.Tensor:
        """Back-propagate `sum_i g_i B_i` over the packed rows of one device batch; returns its share of the loss."""
        model.train()
        switch_to_training = getattr(self.optimizer, "train", None)  # schedule-free optimizers have one
        if callable(switch_to_training):
            switch_to_training()
        inputs.drop_weightless(self.args.tokens_per_batch, self.args.device)
        sums = torch.full((inputs.num_rows,), math.nan, dtype=torch.float64)
        # A step without any weight has a gradient too: zeros.
        missing = max(1, *self.gathered([len(inputs.packed)])) - len(inputs.packed)
        numbers: list[int | None] = [None] * missing + list(range(len(inputs.packed)))
        for place, number in enumerate(numbers):
            with (
                _sync(self.accelerator, model, last=place == len(numbers) - 1),
                self.compute_loss_context_manager(),
                told_when_out_of_memory(self.args.tokens_per_batch, inputs.packed),
            ):
                total, log_p_N = self._idle_sum(inputs) if number is None else self._weighted_sum(inputs, number)
                self.accelerator.backward(total)
            if number is not None:
                packed = inputs.packed[number]
                sums[packed.order] = inputs.row_sums(packed, log_p_N.double()).cpu()
        self.after_second_pass(inputs, sums)
        return torch.tensor(inputs.loss, device=self.args.device)

    def _weighted_sum(self, batch: MicroBatch, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """`sum_n c_n log p_n` of a packed part, with its gradient, and the log p; its forward pass is spared where a
        graph was kept."""
        packed = batch.packed[number]
        # Gradients of the ranks are averaged, so the sum over ranks needs the world size.
        coefficients_N = self.args.world_size * batch.coefficients(packed)
        kept, work = batch.kept.pop(number, None), work_of_parts([packed])
        if kept is not None:
            self.count(tokens=packed.num_tokens, flops=self.flop_count.backward(work))
            return (coefficients_N.to(kept) * kept).sum(), kept.detach()
        above = packed.num_tokens > self.args.tokens_per_batch
        backward = self.flop_count.backward(work, checkpointed=above or bool(self.args.gradient_checkpointing))
        self.count(packed.num_tokens, len(packed.order), self.flop_count.forward(work) + backward)
        with self.denoiser.checkpointed(above):
            return weighted_log_probs(self.denoiser, packed, coefficients_N)

    def _idle_sum(self, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """A pass that counts for nothing, for the gradients of the ranks meet in it."""
        spare = self.spare_part(batch.rows)
        return weighted_log_probs(self.denoiser, spare, torch.zeros_like(spare.index_N, dtype=torch.float64))

    def after_second_pass(self, batch: MicroBatch, row_sums: torch.Tensor) -> None:
        """Look at the row sums `[num_rows]` that pass 2 computed."""

    def stop_if_not_finite(self, example_ids: Sequence[int], values: Sequence[float] | torch.Tensor) -> None:
        """Raise a `UserError` that names the rows when a surrogate is NaN or infinite.

        The weights are saved first if they are still good, so nothing already learned is lost. Call it on every rank
        with the values of the whole optimizer batch.
        """
        rows = bad_rows(example_ids, values)
        if not rows:
            return
        kept = "the last checkpoint is kept"
        self.forget_step()
        if weights_are_finite(self.policy) and self.state.global_step > 0:
            self.args.save_total_limit = None  # nobody knows yet which of the checkpoints is the last good one
            self._save_checkpoint(self.policy, trial=None)
            kept = f"checkpoint-{self.state.global_step} holds the state before it"
        raise diverged(rows, self.state.global_step + 1, kept)


def _sync(accelerator: Any, model: nn.Module, last: bool):
    """Average gradients over ranks with the last backward of a device batch only."""
    return contextlib.nullcontext() if last else accelerator.no_sync(model)
