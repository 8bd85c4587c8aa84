"""`PreferenceTrainer`: any objective of `unveil.objectives` on ELBO surrogates, by the two-pass exact gradient."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import nn

from unveil.draws.splitmix import draw_seed, example_seed, hashes
from unveil.errors import UserError
from unveil.likelihood import combine
from unveil.models.adapters import starts_as_base
from unveil.objectives import Objective, cross_fitted_weights, total_loss, weights
from unveil.training.cache_keys import epochs_of
from unveil.training.cached_reference import reference_from_cache
from unveil.training.config import PreferenceConfig
from unveil.training.draw_checks import refuse_other_draws_in_pass_1
from unveil.training.feedback_checks import refuse_missing_columns, refuse_what_teaches_nothing
from unveil.training.first_pass import (
    FirstPass,
    refuse_unequal_shares,
    refuse_what_only_linear_surrogates_have,
)
from unveil.training.flop_count import FlopCount
from unveil.training.health import Health, remedies_of_falling
from unveil.training.micro_batch import MicroBatch
from unveil.training.objective_flags import objective_of
from unveil.training.objective_state import ObjectiveState
from unveil.training.other_prompts import OtherPrompts, other_prompts_of, refuse_values_of_other_prompts
from unveil.training.preference_metrics import (
    averages_margins,
    kto_term,
    pair_accuracy,
    preference_metrics,
    ranking_accuracy,
)
from unveil.training.reference import AdaptersOff, CachedValues, FrozenCopy, Reference
from unveil.training.reference_sync import ReferenceSync, staged
from unveil.training.run_identity import REFERENCE, Identity, content_of, objective_identity, start_of
from unveil.training.scored import Batch, Scored
from unveil.training.shared_trainer import EVALUATION_EPOCH
from unveil.training.surrogate_trainer import SurrogateTrainer

# Pass 2 recomputes what pass 1 saw; more than rounding between them means that they are not one function. On small
# models bfloat16 moves a likelihood by up to 2.4e-3 of itself, a dropout of 0.01 by 1.5e-2 and more
# (benchmarks/passes_gap.py).
TOLERANCE = 1e-3
COARSE_TOLERANCE = 1e-2


def refuse_batches_of_one(objective: Objective, args: PreferenceConfig, rows: int) -> None:
    """A batch that is its own baseline teaches nothing: say so before the run. (A last batch of one joins the one
    before it.)

    Raises:
        UserError: optimizer batches of one of `rows` training rows, and the baseline is their mean.
    """
    kto = kto_term(objective)
    size = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    if kto is not None and averages_margins(objective) and 1 in (size, rows):
        kto.shift(torch.zeros(1, 1))


class PreferenceTrainer(SurrogateTrainer):
    """Aligns a masked diffusion language model from feedback on answers.

    Args:
        model: the policy; with new LoRA adapters (peft) the reference is the model with adapters off.
        args: `PreferenceConfig`.
        train_dataset: tokenised answers with `label` (`unveil.data.tokenize_responses`), or prompts with their
            candidates (`unveil.data.tokenize_groups`), as the objective's `shape` asks.
        eval_dataset: held-out rows of the same kind, or a dictionary of such datasets.
        ref_model: the reference; default: a frozen copy of `model` as given (of adapters alone, beside weights that
            it shares), or new adapters switched off.
        reference: a reference strategy, for instance cached values; instead of `ref_model`.
        objective: overrides the objective that `args` describes.
        replay_dataset: tokenised answers without labels, for `args.replay_weight`.
        processing_class: the tokenizer, saved with every checkpoint.
    """

    args: PreferenceConfig
    kind = "preference"

    def __init__(
        self,
        model: nn.Module,
        args: PreferenceConfig,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        ref_model: nn.Module | None = None,
        reference: Reference | None = None,
        objective: Objective | None = None,
        replay_dataset: Dataset | None = None,
        **kwargs: Any,
    ) -> None:
        if args.replay_weight and not replay_dataset:
            raise UserError("--replay_weight: needs rows to replay; give --replay_dataset_name")
        self.objective = objective or objective_of(args)
        refuse_unequal_shares(self.objective, args)
        refuse_other_draws_in_pass_1(self.objective, args)
        refuse_values_of_other_prompts(self.objective, args)
        columns = train_dataset.column_names if train_dataset is not None else []
        refuse_what_only_linear_surrogates_have(self.objective, args, columns)
        for given, what in ((train_dataset, "train_dataset"), (eval_dataset, "eval_dataset")):
            for part in given.values() if isinstance(given, dict) else [given] if given is not None else []:
                refuse_missing_columns(self.objective, args.objective, part.column_names, what)
        stages: list[int] = []
        if args.curriculum_stages and train_dataset is not None:
            train_dataset, stages = staged(train_dataset, args)
        super().__init__(model, args, train_dataset=train_dataset, eval_dataset=eval_dataset, **kwargs)
        self._name = args.objective.upper()
        self.replay_dataset = replay_dataset
        self._reference_start = start_of(ref_model) if ref_model is not None and args.process_index == 0 else None
        self.reference: Reference | None = None
        if self.objective.needs_reference:
            self.reference = self._make_reference(model, ref_model) if reference is None else reference
        # Another network has its size; adapters switched off cost nothing.
        self.reference_flop_count = FlopCount(model if ref_model is None else ref_model, ref_model is not None)
        self.add_callback(ObjectiveState(list(self.objective.initial_state())))
        self.sync = ReferenceSync(self, stages) if args.sync_ref_model or stages else None
        if self.sync is not None:
            self.add_callback(self.sync)
        self.health = Health(args.allow_one_label, remedies_of_falling(self.objective, args))
        self.other_prompts: dict[bool, OtherPrompts] = {}  # of training (False) and of held-out rows (True)

    @property
    def lone_row_joins(self) -> bool:
        return averages_margins(self.objective)

    @property
    def objective_state(self) -> ObjectiveState:
        """What a stateful objective remembers (transformers may put another instance in its place on a resume)."""
        return next(one for one in self.callback_handler.callbacks if isinstance(one, ObjectiveState))

    def _make_reference(self, model: nn.Module, ref_model: nn.Module | None) -> Reference:
        if self.args.ref_cache:
            return self._from_cache(model if ref_model is None else ref_model)
        if ref_model is not None:
            reference = FrozenCopy(ref_model, self.denoiser)
        elif isinstance(model, PeftModel) and starts_as_base(model):
            return AdaptersOff(model, self.denoiser)
        else:
            sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
            reference = FrozenCopy.of(model, self.denoiser, share_frozen=not sharded)
        reference.prepare(self.accelerator)
        return reference

    def _from_cache(self, model: nn.Module) -> Reference:
        dataset, held_out = self.train_dataset, self.eval_dataset
        if not isinstance(dataset, Dataset):
            raise UserError("--ref_cache: needs the training rows that it was made for")
        tokenizer: Any = self.processing_class
        known: Any = held_out
        return reference_from_cache(
            str(self.args.ref_cache), model, self.denoiser, tokenizer, dataset, self.args, known,
            adapters=isinstance(model, PeftModel) and not starts_as_base(model), lone_row_joins=self.lone_row_joins,
        )  # fmt: skip

    def before_training(self) -> None:
        """With `precompute_ref_log_probs` the reference is scored first and then let go."""
        rows: Any = self.train_dataset
        if rows is not None:
            refuse_batches_of_one(self.objective, self.args, len(rows))
            refuse_what_teaches_nothing(self.objective, self.args.objective, rows, "train_dataset")
            self.other_prompts[False] = other_prompts_of(self.objective, rows, "--dataset_name")
        super().before_training()
        if self.args.precompute_ref_log_probs and self.reference is not None:
            self.reference = self._cached(self.reference)

    def own_identity(self) -> Identity:
        reference = self._reference_start or self._start  # the policy as it starts, unless another was given
        return {
            **objective_identity(self.objective, self.args),
            "replay rows": content_of(self.replay_dataset),
            REFERENCE: {"digest": reference} if self.objective.needs_reference else None,
        }

    def add_to_checkpoint(self, folder: Path) -> None:
        """A reference that moves goes along."""
        super().add_to_checkpoint(folder)
        if self.sync is not None:
            self.sync.save(folder)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.sync is not None:
            self.sync.load(Path(checkpoint))

    def _cached(self, reference: Reference) -> CachedValues:
        cache = CachedValues(self.args.share_sizes)
        train: Any = self.train_dataset
        parts = [(train, epochs_of(self.args, len(train), self.lone_row_joins))]
        held_out = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
        parts += [(dataset, (EVALUATION_EPOCH,)) for dataset in held_out.values() if dataset is not None]
        size = self.args.per_device_eval_batch_size
        for dataset, wanted in parts:
            rows: list[Any] = list(dataset)
            for epoch in wanted:
                draws = self.draws_in(epoch) if epoch == EVALUATION_EPOCH else self.args.num_draws_weight
                for start in range(0, len(rows), size):
                    batch = self.prepare(rows[start : start + size], epoch, draws, self.objective.position_weights)
                    keys = [(response.example_id, epoch) for response in batch.responses]
                    cache.store(batch, epoch, reference.log_probs(batch, keys))
        return cache

    # -- pass 1 -----------------------------------------------------------------------------------------------------

    @property
    def _weighs_on_other_rows(self) -> bool:
        """Whether pass 1 has draws of its own."""
        return self.args.num_draws_weight not in (None, self.args.num_draws)

    def tokens_to_keep(self) -> int:
        return 0 if self._weighs_on_other_rows else super().tokens_to_keep()

    def prepare_for_training(self, rows: Any, epoch: int) -> MicroBatch:
        wanted = self.objective.position_weights
        batch = self.prepare(rows, epoch, weighting=wanted)
        if self._weighs_on_other_rows:
            batch.first = self.prepare(rows, epoch, self.args.num_draws_weight, wanted)
        return batch

    def weigh(self, batches: list[MicroBatch]) -> None:
        epoch = self.draw_epoch()
        mine = [
            record
            for number, batch in enumerate(batches)
            for record in self._scored(batch.first or batch, epoch, number)
        ]
        # In the order that one process would have: device batch, rank, row.
        records = sorted(self.gathered(mine), key=lambda record: (record.group[1], record.group[0]))
        self.stop_if_not_finite([r.example_id for r in records], [r.policy + r.reference for r in records])
        loss, slopes = self._slopes(Batch(records))
        own = [g for record, g in zip(records, slopes) if record.group[0] == self.args.process_index]
        for batch in batches:
            count = len(batch.responses)
            (batch.weigh_draws if self._by_draw else batch.weigh_answers)(own[:count])
            own = own[count:]
            batch.loss = loss / len(batches)
        self.record(preference_metrics(records, self.objective))
        if self.args.process_index == 0:  # every process has all records
            self.health.look(records, self.state.global_step + 1, self.reference is not None)
        if self.args.replay_weight:
            self._add_replay(batches[-1])

    @property
    def _by_draw(self) -> bool:
        """Whether every draw has a slope of its own."""
        return self.objective.per_draw or self.args.debias == "cross_fit"

    def _slopes(self, batch: Batch) -> tuple[float, list]:
        """The mean loss and d loss / d B of every answer (or of every draw of it)."""
        likelihoods = batch.likelihoods(self.reference is not None, self._by_draw)
        whole = batch.likelihoods(self.reference is not None, self.objective.per_draw)
        objective = self.objective_state.updated(self.objective, whole, batch.feedback())
        if self.args.debias == "cross_fit":
            loss, slopes = cross_fitted_weights(
                objective, likelihoods, batch.feedback(), draws_per_group=self.args.draws_per_group
            )
        else:
            loss, slopes = weights(objective, likelihoods, batch.feedback())
        return loss.item(), batch.per_answer(slopes)

    def _scored(self, batch: MicroBatch, epoch: int, number: int = 0) -> list[Scored]:
        """Surrogates of one device batch under policy and reference, on the same rows."""
        return FirstPass(self, batch, epoch).records(number)

    def after_second_pass(self, batch: MicroBatch, row_sums: torch.Tensor) -> None:
        if not batch.responses:
            return
        values = combine(row_sums, batch.plans).values
        labelled = len(batch.groups)
        if len(batch.seen):
            seen = batch.seen.to(values)
            gap = (values[:labelled] - seen).abs() / seen.abs().clamp(min=1)
            gap = gap[~gap.isnan()]  # rows that skipped the second pass
            worst = float(gap.max()) if len(gap) else 0.0
            self.record({"elbo/passes_gap": worst})
            if worst > self._tolerance:
                raise UserError(
                    f"step {self.state.global_step + 1}: the second pass computed another likelihood than the first "
                    f"(relative gap {worst:.1e}, above {self._tolerance:g}); {self._remedy_of_a_gap}"
                )
        if len(values) > labelled:
            lengths = torch.tensor([r.length for r in batch.responses[labelled:]])
            replayed = -(values[labelled:] / lengths)
            replayed = replayed[~replayed.isnan()]  # rows that skipped the second pass
            if len(replayed):
                per_token = float(replayed.mean())
                # The trainer averages the loss over ranks; this one has a share of the replayed rows.
                share = self.args.world_size * len(lengths) / self.args.replay_batch_size
                batch.loss += self.args.replay_weight * per_token * share
                self.record({"replay/nelbo_per_token": per_token}, len(replayed))

    @property
    def _tolerance(self) -> float:
        """The relative gap of the passes that rounding explains."""
        half = self.args.bf16 or self.args.fp16
        half = half or min(parameter.dtype.itemsize for parameter in self.policy.parameters()) < 4
        return COARSE_TOLERANCE if half else TOLERANCE

    @property
    def _remedy_of_a_gap(self) -> str:
        if not self.args.disable_dropout:
            return "keep --disable_dropout True"
        return (
            "the model computes something else in training than in evaluation (dropout written into its code, another "
            "mask, noise); make both one function"
        )

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
        replay.weigh_answers([weight / response.length for response in replay.responses])
        batch.append(replay)

    # -- evaluation -------------------------------------------------------------------------------------------------

    def evaluation_metrics(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        """`loss`, the metrics of training, `rewards/auc` and, where answers come in pairs, `rewards/accuracies`."""
        self.other_prompts[True] = other_prompts_of(self.objective, rows, more=self.other_prompts.get(False, ()))
        found: list[tuple[int, Scored]] = []
        for number, (numbers, batch) in enumerate(self.held_out_batches(rows, self.objective.position_weights)):
            records = self._scored(batch, EVALUATION_EPOCH, number)
            found += [(numbers[record.group[2]], record) for record in records]
        records = [record for _, record in sorted(self.gathered(found), key=lambda item: item[0])]
        batch = Batch(records)
        with_reference = self.reference is not None
        objective = self.objective_state.current(self.objective)
        loss = total_loss(
            objective, batch.likelihoods(with_reference, self.objective.per_draw), batch.feedback()
        ).item()
        metrics = {"loss": loss, **preference_metrics(records, self.objective)}
        if with_reference:
            metrics |= ranking_accuracy(records) | pair_accuracy(records)
        return metrics
