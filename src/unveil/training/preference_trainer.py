"""`PreferenceTrainer`: any objective of `unveil.objectives` on ELBO surrogates, by the two-pass exact gradient."""

import math
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import nn

from unveil.draws.splitmix import draw_seed, example_seed, hashes
from unveil.errors import UserError, warn_user
from unveil.likelihood import combine, standard_error
from unveil.objectives import Feedback, Objective, kto, sft, total_loss, weights
from unveil.training.config import PreferenceConfig
from unveil.training.preference_metrics import (
    Scored,
    kto_term,
    likelihoods_of,
    pair_accuracy,
    preference_metrics,
    ranking_accuracy,
)
from unveil.training.reference import AdaptersOff, CachedValues, FrozenCopy, Reference
from unveil.training.surrogate_trainer import EVALUATION_EPOCH, MicroBatch, SurrogateTrainer

# Pass 2 recomputes what pass 1 saw; more than rounding between them means that they are not one function.
TOLERANCE = 1e-3


def objective_of(args: PreferenceConfig) -> Objective:
    """The objective that the flags describe."""
    if args.objective != "kto":
        raise UserError(f"--objective {args.objective}: unknown; choose kto")
    baseline: Any = args.baseline
    objective: Objective = kto(args.beta, args.desirable_weight, args.undesirable_weight, baseline)
    return objective + args.sft_weight * sft() if args.sft_weight else objective


def refuse_batches_of_one(objective: Objective, args: PreferenceConfig, rows: int) -> None:
    """A batch that is its own baseline teaches nothing: say so before the run, not in its last step.

    Raises:
        UserError: some optimizer batch of `rows` training rows would hold one answer, and the baseline is its mean.
    """
    kto, batch = kto_term(objective), _optimizer_batch(args)
    if kto is None or kto.baseline == "zero":
        return
    if batch == 1 or rows == 1:
        kto.shift(torch.zeros(1, 1))
    if rows % batch == 1 and not args.dataloader_drop_last:
        raise UserError(
            f"--per_device_train_batch_size: {rows} rows in batches of {batch} leave a last batch of one, which is "
            "its own baseline; give --dataloader_drop_last True, another batch size or --baseline zero"
        )


def _optimizer_batch(args: PreferenceConfig) -> int:
    return args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size


class PreferenceTrainer(SurrogateTrainer):
    """Aligns a masked diffusion language model from labelled answers.

    Args:
        model: the policy; with LoRA adapters (peft) the reference is the model with adapters off.
        args: `PreferenceConfig`.
        train_dataset: tokenised answers with `label` (`unveil.data.tokenize_responses`).
        eval_dataset: held-out answers of the same kind, or a dictionary of such datasets.
        ref_model: the reference; default: a frozen copy of `model` as given, or adapters off.
        objective: overrides the objective that `args` describes.
        replay_dataset: tokenised answers without labels, for `args.replay_weight`.
        processing_class: the tokenizer, saved with every checkpoint.
    """

    args: PreferenceConfig
    _name = "KTO"

    def __init__(
        self,
        model: nn.Module,
        args: PreferenceConfig,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        ref_model: nn.Module | None = None,
        objective: Objective | None = None,
        replay_dataset: Dataset | None = None,
        **kwargs: Any,
    ) -> None:
        if args.replay_weight and not replay_dataset:
            raise UserError("--replay_weight: needs rows to replay; give --replay_dataset_name")
        super().__init__(model, args, train_dataset=train_dataset, eval_dataset=eval_dataset, **kwargs)
        self.objective = objective or objective_of(args)
        self.replay_dataset = replay_dataset
        self.reference = self._make_reference(model, ref_model) if self.objective.needs_reference else None
        self._falling_steps = 0
        self._warned: set[str] = set()

    def _make_reference(self, model: nn.Module, ref_model: nn.Module | None) -> Reference:
        if ref_model is not None:
            reference = FrozenCopy(ref_model, self.denoiser)
        elif isinstance(model, PeftModel):
            return AdaptersOff(model, self.denoiser)
        else:
            reference = FrozenCopy.of(model, self.denoiser)
        reference.prepare(self.accelerator)
        return reference

    def train(self, *args: Any, **kwargs: Any):
        """Train; with `precompute_ref_log_probs` the reference is scored first and then let go."""
        if self.train_dataset is not None:
            refuse_batches_of_one(self.objective, self.args, len(self.train_dataset))  # type: ignore[arg-type]
        if self.args.precompute_ref_log_probs and self.reference is not None:
            self.reference = self._cached(self.reference)
        return super().train(*args, **kwargs)

    def _num_epochs(self) -> int:
        """Passes over the data that training will start."""
        if self.args.max_steps > 0:
            return math.ceil(self.args.max_steps * _optimizer_batch(self.args) / len(self.train_dataset))  # type: ignore[arg-type]
        return math.ceil(self.args.num_train_epochs)

    def _cached(self, reference: Reference) -> CachedValues:
        cache = CachedValues()
        epochs = range(self._num_epochs() if self.args.draws == "fresh" else 1)
        parts = [(self.train_dataset, epochs)]
        held_out = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
        parts += [(dataset, (EVALUATION_EPOCH,)) for dataset in held_out.values() if dataset is not None]
        size = self.args.per_device_eval_batch_size
        for dataset, wanted in parts:
            rows: list[Any] = list(dataset)  # type: ignore[call-overload]
            for epoch in wanted:
                for start in range(0, len(rows), size):
                    batch = self.prepare(rows[start : start + size], epoch, self.draws_in(epoch))
                    keys = [(response.example_id, epoch) for response in batch.responses]
                    cache.store(keys, reference.row_sums(batch.packed, batch.num_rows, keys))
        return cache

    # -- pass 1 -----------------------------------------------------------------------------------------------------

    def weigh(self, batches: list[MicroBatch]) -> None:
        epoch = int(self.state.epoch or 0) if self.args.draws == "fresh" else 0
        mine = [record for batch in batches for record in self._scored(batch, epoch)]
        gathered = self.gathered([(self.args.process_index, record) for record in mine])
        records = [record for _, record in gathered]
        self.stop_if_not_finite([r.example_id for r in records], [r.policy + r.reference for r in records])
        likelihoods = likelihoods_of(records, self.reference is not None)
        labels = torch.tensor([float(r.label) for r in records], dtype=torch.float64)[:, None]
        loss, slopes = weights(self.objective, likelihoods, Feedback(labels))
        own = [g for (rank, _), g in zip(gathered, slopes[:, 0].tolist()) if rank == self.args.process_index]
        for batch in batches:
            count = len(batch.responses)
            batch.weights, own = own[:count], own[count:]
            batch.loss = loss.item() / len(batches)
        self.record(preference_metrics(records, self.objective))
        self._watch(records)
        if self.args.replay_weight:
            self._add_replay(batches[-1])

    def _scored(self, batch: MicroBatch, epoch: int) -> list[Scored]:
        """Surrogates of one device batch under policy and reference, on the same rows."""
        policy_sums = self.first_pass(batch)
        reference_sums = policy_sums
        if self.reference is not None:
            keys = [(response.example_id, epoch) for response in batch.responses]
            reference_sums = self.reference.row_sums(batch.packed, batch.num_rows, keys)
        policy, reference = combine(policy_sums, batch.plans), combine(reference_sums, batch.plans)
        batch.seen = policy.values
        errors = [standard_error(p - r, plan) for p, r, plan in zip(policy.per_draw, reference.per_draw, batch.plans)]
        return [
            Scored(response.example_id, bool(row["label"]), response.length, float(p), float(r), float(error))
            for response, row, p, r, error in zip(batch.responses, batch.rows, policy.values, reference.values, errors)
        ]

    def after_second_pass(self, batch: MicroBatch, row_sums: torch.Tensor) -> None:
        values = combine(row_sums, batch.plans).values
        labelled = len(batch.seen)
        gap = (values[:labelled] - batch.seen.to(values)).abs() / batch.seen.to(values).abs().clamp(min=1)
        self.record({"elbo/passes_gap": float(gap.max())})
        if gap.max() > TOLERANCE and not self.args.bf16 and not self.args.fp16:
            raise UserError(
                f"step {self.state.global_step + 1}: the second pass computed another likelihood than the first "
                f"(relative gap {float(gap.max()):.1e}); keep --disable_dropout True"
            )
        if len(values) > labelled:
            lengths = torch.tensor([r.length for r in batch.responses[labelled:]])
            per_token = float(-(values[labelled:] / lengths).mean())
            batch.loss += self.args.replay_weight * per_token
            self.record({"replay/nelbo_per_token": per_token})

    # -- replay -----------------------------------------------------------------------------------------------------

    def _add_replay(self, batch: MicroBatch) -> None:
        """Append replay rows to a device batch: their weight is known without a first pass.

        Which rows is a function of (seed, step), so it is the same for every world size and after a resume.
        """
        dataset, count = self.replay_dataset, self.args.replay_batch_size
        assert dataset is not None
        base = draw_seed(example_seed(self.args.plan_seed, self.state.global_step, 0), 0, 2)
        chosen = (hashes(base, count) % len(dataset)).astype(int)
        mine = chosen[self.args.process_index :: self.args.world_size]
        rows = [dataset[int(i)] for i in mine]
        replay = self.prepare(rows, epoch=1 + self.state.global_step, num_draws=self.args.replay_num_draws)
        weight = -self.args.replay_weight / count
        batch.append(replay, [weight / response.length for response in replay.responses])

    # -- health -----------------------------------------------------------------------------------------------------

    def _watch(self, records: list[Scored]) -> None:
        """Warn once when a batch holds one label only, and once when both classes keep losing likelihood."""
        labels = {r.label for r in records}
        if len(labels) == 1 and not self.args.allow_one_label and "label" not in self._warned:
            self._warned.add("label")
            warn_user(
                f"step {self.state.global_step + 1}: all {len(records)} answers of the batch have the label "
                f"{labels.pop()}; its loss cannot saturate, use larger batches (told once)"
            )
        up = [r.policy - r.reference for r in records if r.label]
        down = [r.policy - r.reference for r in records if not r.label]
        falling = bool(up and down) and sum(up) / len(up) < 0 and sum(down) / len(down) < 0
        self._falling_steps = self._falling_steps + 1 if falling else 0
        if self._falling_steps == 10 and "falling" not in self._warned:
            self._warned.add("falling")
            warn_user(
                f"step {self.state.global_step + 1}: desirable and undesirable answers have both lost likelihood for "
                "10 steps (likelihood displacement); --replay_weight, --sft_weight or --baseline kl hold it up"
            )

    # -- evaluation -------------------------------------------------------------------------------------------------

    def evaluation_metrics(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        """`loss`, the metrics of training, `rewards/auc` and, for halves of pairs, `rewards/accuracies`."""
        records = []
        for part in self.my_share(rows):
            batch = self.prepare(part, EVALUATION_EPOCH, self.draws_in(EVALUATION_EPOCH))
            records += self._scored(batch, EVALUATION_EPOCH)
        records = list({r.example_id: r for r in self.gathered(records)}.values())
        labels = torch.tensor([float(r.label) for r in records], dtype=torch.float64)[:, None]
        likelihoods = likelihoods_of(records, self.reference is not None)
        loss = total_loss(self.objective, likelihoods, Feedback(labels)).item()
        metrics = {"loss": loss, **preference_metrics(records, self.objective)}
        return metrics | ranking_accuracy(records) | pair_accuracy(records)
