"""`unveil reference`: score the reference once, before training, into a cache that `unveil train` can use."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from datasets import Dataset
from peft import PeftModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from unveil.cli.inputs import refuse_to_lose_inputs
from unveil.cli.loading import read_model, read_tokenizer
from unveil.cli.options import ModelArguments
from unveil.cli.output import command
from unveil.cli.parser import parse
from unveil.cli.train import TrainScriptArguments, read_feedback
from unveil.cli.training_run import held_out_source, load_to_train, tell
from unveil.draws import Plan
from unveil.errors import UserError
from unveil.likelihood import build_rows
from unveil.likelihood.canonical import canonical_log_probs
from unveil.locks import claim_folder
from unveil.models import Denoiser
from unveil.models.adapters import starts_as_base
from unveil.objectives import Objective
from unveil.terminal import PlainConsole
from unveil.training import PreferenceConfig, objective_of, tokenize
from unveil.training.cache_keys import ALONE, Answer, Key, answers_of, epochs_of
from unveil.training.cache_shards import Draws
from unveil.training.cached_reference import by_answer
from unveil.training.fingerprint import fingerprint_of
from unveil.training.other_prompts import needs_mismatched
from unveil.training.preference_metrics import averages_margins
from unveil.training.reference_cache import HELD_OUT_EPOCH, ReferenceCache, fill, remove_cache, require_cache_or_free

DESCRIPTION = """Score every answer under the reference model once, on the draws that training will use, and keep the
values in a folder. `unveil train --ref_cache FOLDER` then holds no second model. The flags are those of `unveil train`
(what does not shape the values has no effect); --output_dir is the folder of the cache, --overwrite removes an old one.
An interrupted run goes on where it stopped; more epochs or held-out answers are added to what is there."""


def main(argv: Sequence[str]) -> None:
    """Parse, read, load, score what is missing, tell."""
    model_args, script, args = parse(
        (ModelArguments, TrainScriptArguments, PreferenceConfig),
        argv,
        "unveil reference",
        DESCRIPTION,
        required={
            "model_name_or_path": "a hub name or a folder",
            "dataset_name": "a hub name or a file",
            "output_dir": "a folder for the cache",
        },
    )
    name, folder = str(model_args.model_name_or_path), Path(str(args.output_dir))
    objective = objective_of(args)
    _refuse_what_cannot_be_kept(args, objective)
    if args.process_index == 0:
        claim_folder(folder)
    require_cache_or_free(folder)
    refuse_to_lose_inputs([folder], "--output_dir", argv, model_args, script)
    held_out_name = held_out_source(script, args)
    rows, held_out = read_feedback(script, args, objective, held_out_name)
    reference = script.ref_model_name_or_path or name
    if reference == name:
        model, tokenizer = load_to_train(model_args, name)
    else:
        tokenizer = read_tokenizer(model_args, name)
        dtype = model_args.dtype or ("auto" if model_args.use_peft else "float32")
        model = read_model(model_args, reference, tokenizer, dtype)
    model.requires_grad_(False).eval()
    denoiser = Denoiser(model.to(args.device))  # type: ignore[arg-type]
    dataset = tokenize(rows, tokenizer, denoiser, args, str(script.dataset_name))
    if held_out is not None:
        held_out = tokenize(held_out, tokenizer, denoiser, args, str(held_out_name))

    accelerator = _accelerator(args)
    adapters = isinstance(model, PeftModel) and not starts_as_base(model)
    fingerprint = fingerprint_of(model, denoiser, tokenizer, dataset, args, held_out, adapters)
    with accelerator.main_process_first():
        if script.overwrite and accelerator.is_main_process:
            remove_cache(folder)
        cache = ReferenceCache.create(folder, fingerprint)
    denoiser.model = accelerator.prepare_model(model, evaluation_mode=True)
    epochs = epochs_of(args, len(dataset), averages_margins(objective))
    work = Work(denoiser, args, dataset, held_out, str(script.dataset_name), epochs)
    missing = len(cache.missing(work.keys))
    accelerator.wait_for_everyone()
    start = time.perf_counter()
    with work.bar(missing):
        fill(cache, work.keys, work.score, args.process_index, args.world_size)
    accelerator.wait_for_everyone()
    if args.process_index == 0:
        report(cache, work, missing, time.perf_counter() - start)
    tell(args, *next_commands(name, held_out_name, script, args))


def _accelerator(args: PreferenceConfig) -> Accelerator:
    """The precision of training, so that the values are those that training would compute."""
    accelerator = Accelerator(mixed_precision=args.mixed_precision, cpu=args.use_cpu)
    if accelerator.distributed_type.name not in ("NO", "MULTI_GPU", "MULTI_CPU"):
        raise UserError(
            f"{accelerator.distributed_type.name}: `unveil reference` holds the whole model in every process; start it "
            "with `accelerate launch --multi_gpu`, or as one process"
        )
    return accelerator


def _refuse_what_cannot_be_kept(args: PreferenceConfig, objective: Objective) -> None:
    if not objective.needs_reference:
        raise UserError(f"--objective {args.objective}: needs no reference, so there is nothing to compute; just train")
    if args.sync_ref_model or args.curriculum_stages:
        flag = "--sync_ref_model" if args.sync_ref_model else "--curriculum_stages"
        raise UserError(
            f"{flag}: the reference moves, so its values cannot be computed once; train without --ref_cache"
        )
    if needs_mismatched(objective):
        raise UserError(
            "--baseline trl_kl: scores answers under other prompts too, and a cache holds values of answers under "
            "their own; train without --ref_cache"
        )


class Work:
    """What there is to score, and the scoring of some of it."""

    def __init__(
        self,
        denoiser: Denoiser,
        args: PreferenceConfig,
        dataset: Dataset,
        held_out: Dataset | None,
        source: str,
        epochs: Sequence[int],
    ) -> None:
        self.denoiser, self.args, self.source = denoiser, args, source
        self.epochs = list(epochs)
        self.answers: dict[Key, Answer] = {}
        for answer in answers_of(dataset, args.share_sizes):
            self.answers.update((answer.key(epoch), answer) for epoch in self.epochs)
        if held_out is not None:
            members = answers_of(held_out, args.share_sizes, args.max_eval_samples)
            self.answers.update((answer.key(HELD_OUT_EPOCH), answer) for answer in members)
        self.keys = list(self.answers)
        self.tokens = 0
        self._progress: Progress | None = None

    def bar(self, total: int) -> Progress:
        """A bar on a terminal; on the main process only."""
        columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        hidden = self.args.process_index > 0 or self.args.disable_tqdm or not sys.stderr.isatty()
        self._progress = Progress(*columns, console=Console(stderr=True), disable=hidden)
        self._progress.add_task("scoring", total=total)
        return self._progress

    def score(self, keys: Sequence[Key]) -> list[Draws]:
        """log p of the hidden tokens of every draw of some answers."""
        found = []
        for key in keys:
            rows = build_rows([self.answers[key].response], [self.plan_of(key)], self.denoiser.mask_token_id)
            (draws,) = by_answer(rows, canonical_log_probs(self.denoiser, rows))
            if not all(torch.isfinite(log_p).all() for log_p in draws):
                raise UserError(
                    f"{self.source}: the likelihood of row {key.example_id} is not a finite number; check the "
                    "checkpoint, and try --dtype float32"
                )
            found.append(draws)
            self.tokens += sum(row.length for row in rows)
            if self._progress is not None:
                self._progress.advance(self._progress.task_ids[0], self.args.world_size)
        return found

    def plan_of(self, key: Key) -> Plan:
        """The draws of an answer, as training draws them."""
        args, response = self.args, self.answers[key].response
        num_draws = args.num_draws_weight or args.num_draws
        if key.epoch == HELD_OUT_EPOCH:
            num_draws = args.eval_num_draws or args.num_draws
        size_id = None if key.size_id == ALONE else key.size_id
        return args.plan_of(response.example_id, key.epoch, response.length, num_draws, size_id)


def report(cache: ReferenceCache, work: Work, missing: int, seconds: float) -> None:
    """What the cache holds now, and what it cost."""
    held_out = sum(key.epoch == HELD_OUT_EPOCH for key in work.keys)
    draws = cache.wanted.parts["draws"].content
    size = sum(file.stat().st_size for file in cache.folder.iterdir())
    table = Table("reference cache", str(cache.folder))
    for name, value in (
        ("answers", str((len(work.keys) - held_out) // len(work.epochs))),
        ("held-out answers", str(held_out)),
        ("epochs", f"{len(work.epochs)}" if work.args.draws == "fresh" else "any number, their draws are fixed"),
        ("draws per answer", f"{draws['num_draws']} ({draws['draw_design']})"),
        ("computed now", f"values of {missing} answers, {len(work.keys) - missing} were there"),
        ("tokens read", f"{work.tokens}{' by this process' if work.args.world_size > 1 else ''}"),
        ("seconds", f"{seconds:.1f}"),
        ("size", f"{size / 2**20:.1f} MiB"),
    ):
        table.add_row(name, value)
    PlainConsole(width=118).print(table)


def next_commands(model: str, held_out: str | None, script: TrainScriptArguments, args: PreferenceConfig) -> list[str]:
    """How to train with the cache."""
    words = ["unveil", "train", "--model_name_or_path", model, "--dataset_name", str(script.dataset_name)]
    words += ["--objective", args.objective] if args.objective != "kto" else []
    words += ["--eval_dataset_name", held_out] if held_out else []
    words += ["--ref_cache", str(args.output_dir), "--output_dir", "OUT"]
    return ["next, with the flags given here:", command(*words)]
