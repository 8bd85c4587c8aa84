"""How the weights move: `transformers.Trainer` with the two-pass exact gradient."""

from unveil.training.checkpoint import checkpoint_to_resume
from unveil.training.config import PreferenceConfig, SFTConfig
from unveil.training.finish import finish_run, finished_run, versions
from unveil.training.objective_flags import objective_of, recipe_of
from unveil.training.preference_trainer import PreferenceTrainer, refuse_batches_of_one
from unveil.training.setup import add_adapters, tokenize
from unveil.training.sft_trainer import SFTTrainer

__all__ = [
    "PreferenceConfig",
    "PreferenceTrainer",
    "SFTConfig",
    "SFTTrainer",
    "add_adapters",
    "checkpoint_to_resume",
    "finish_run",
    "finished_run",
    "objective_of",
    "recipe_of",
    "refuse_batches_of_one",
    "tokenize",
    "versions",
]
