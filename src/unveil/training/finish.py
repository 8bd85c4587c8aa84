"""The end of a run: the model at the top of the output folder, `run.json` and a model card."""

import math
import platform
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import accelerate
import datasets
import numpy
import peft
import torch
import transformers

import unveil
from unveil.checksums import require_as_written
from unveil.files import read_json, write_json
from unveil.secrets import shown_command
from unveil.training.divergence import require_finite_weights
from unveil.training.draw_config import DrawConfig
from unveil.training.model_card import write_model_card
from unveil.training.run_identity import differences
from unveil.training.surrogate_trainer import SurrogateTrainer


def versions() -> dict[str, str]:
    """What the run ran on."""
    modules = (unveil, torch, transformers, accelerate, peft, datasets, numpy)
    found = {module.__name__: str(module.__version__) for module in modules}
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.machine()
    return {"python": platform.python_version(), **found, "device": device}


def own_arguments(args: DrawConfig) -> dict[str, Any]:
    """The arguments that shape the result, for `run.json`: our own, and those of the optimizer."""
    inherited = {field.name for field in fields(transformers.TrainingArguments)}
    shared = {
        "learning_rate", "adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm", "warmup_steps",
        "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "seed", "bf16",
    }  # fmt: skip
    names = [f.name for f in fields(args) if f.name not in inherited or f.name in shared]
    return {name: getattr(args, name) for name in names} | {
        "lr_scheduler_type": str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
    }


def finish_run(trainer: SurrogateTrainer, source: str, extra: dict[str, Any] | None = None) -> None:
    """Save model, tokenizer, model card and `run.json` in the output folder (main process)."""
    require_finite_weights(trainer.policy, trainer.state.global_step)

    def add(folder: Path) -> None:
        record = {
            "command": shown_command(["unveil", *sys.argv[1:]]),
            "versions": versions(),
            "arguments": own_arguments(trainer.args),
            "data": source,
            "world_size": trainer.args.world_size,
            "steps": trainer.state.global_step,
            "final": {k: v for k, v in trainer.state.log_history[-1].items() if _finite(v)},
            **(extra or {}),
            "identity": trainer.identity,
        }
        write_json(folder / "run.json", record)
        write_model_card(folder, trainer, source, record)

    trainer.publish_model(add)


def finished_run(trainer: SurrogateTrainer) -> dict[str, Any] | None:
    """Return the `run.json` of the output folder if it is of this very run, as long and with its weights beside it."""
    output = Path(str(trainer.args.output_dir))
    found: list[dict[str, Any] | None] = []
    if trainer.args.process_index == 0:
        record = _record_of(output / "run.json")
        there = record.get("identity") if record else None
        same = isinstance(there, dict) and not any(differences(there, trainer.identity))
        if same:
            require_as_written(output, f"--output_dir {output}", "give --overwrite to run it again")
        found.append(record if same and any(output.glob("*.safetensors")) else None)
    return trainer.gathered(found)[0]


def _record_of(file: Path) -> dict[str, Any] | None:
    try:
        record = read_json(file)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _finite(value: Any) -> bool:
    """JSON knows no NaN."""
    return isinstance(value, int | float) and math.isfinite(value)
