"""ELBO-KTO on the thumbs of the feedback split, with replay of pretraining text."""

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PrinterCallback

from unveil.data import sft_rows, tokenize_responses, unpaired_rows
from unveil.demo.base import Base
from unveil.demo.progress import Advance, StepBar
from unveil.demo.recipe import Recipe
from unveil.demo.reviews import feedback_rows, replay_rows, shuffled_thumbs
from unveil.errors import UserInputWarning
from unveil.training import PreferenceConfig, PreferenceTrainer

# What the base was pretrained with: replay and every measurement keep to it.
BASE_END_OF_ANSWER = "scored_tail"


@dataclass(frozen=True)
class Alignment:
    """What training gave: the model, its log (one entry per step), thumbs up and down, and what it warned about."""

    model: PreTrainedModel
    history: list[dict[str, float]]
    thumbs_up: int
    thumbs_down: int
    warnings: list[str]


def tokenized(rows: list[dict[str, Any]], base: Base, end_of_answer: str, canvas_length: int) -> Dataset:
    """Demo rows as token ids. Texts longer than the canvas (one in six) are cut, as they were in pretraining."""
    read = unpaired_rows if "label" in rows[0] else sft_rows
    rule: Any = end_of_answer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserInputWarning)
        return tokenize_responses(
            read(Dataset.from_list(rows), "demo reviews"),
            base.tokenizer,
            max_length=base.denoiser.max_length or canvas_length * 2,
            end_of_answer=rule,
            canvas_length=canvas_length if rule.endswith("tail") else None,
            mask_token_id=base.denoiser.mask_token_id,
            source="demo reviews",
        )


def arguments(recipe: Recipe, folder: Path) -> PreferenceConfig:
    """The recipe as the trainer's configuration; `metrics.jsonl` goes to `folder`."""
    return PreferenceConfig(
        output_dir=str(folder),
        learning_rate=recipe.learning_rate,
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch_size,
        num_draws=recipe.num_draws,
        beta=recipe.beta,
        baseline=recipe.baseline,
        desirable_weight=recipe.desirable_weight,
        undesirable_weight=recipe.undesirable_weight,
        sft_weight=recipe.sft_weight,
        replay_weight=recipe.replay_weight,
        replay_batch_size=recipe.replay_batch_size,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        logging_steps=1,
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    )


def align(base: Base, recipe: Recipe, folder: Path, shuffled: bool, advance: Advance) -> Alignment:
    """Train a copy of the base; `shuffled` permutes the thumbs first (the control)."""
    thumbs = feedback_rows()
    if shuffled:
        thumbs = shuffled_thumbs(thumbs, recipe.seed)
    replayed = None
    if recipe.replay_weight:
        replayed = tokenized(replay_rows(), base, BASE_END_OF_ANSWER, recipe.canvas_length)
    trainer = PreferenceTrainer(
        copy.deepcopy(base.model),
        arguments(recipe, folder),
        train_dataset=tokenized(thumbs, base, recipe.end_of_answer, recipe.canvas_length),
        replay_dataset=replayed,
        processing_class=base.tokenizer,
        callbacks=[StepBar(advance)],
    )
    trainer.remove_callback(PrinterCallback)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserInputWarning)
        trainer.train()
    history = [line for line in trainer.state.log_history if "loss" in line]
    up = sum(row["label"] for row in thumbs)
    for warning in caught:  # kept for the report, and shown all the same
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    told = [str(warning.message) for warning in caught if issubclass(warning.category, UserInputWarning)]
    return Alignment(trainer.model.eval(), history, up, len(thumbs) - up, told)  # type: ignore[arg-type]
