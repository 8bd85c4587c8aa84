"""What makes a run this run and no other: a run that goes on from a checkpoint must agree in all of it.

Kept as `run_identity.json` in every checkpoint. A value is what the flag was, or a digest of content (`Content`) whose
value tells nobody anything. Not part of it, so free to change: how the run is logged, saved, evaluated and packed,
where it runs, and over how many processes a batch is spread.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import TrainingArguments

from unveil.errors import UserError
from unveil.files import read_json, write_json
from unveil.likelihood.digests import digest, digest_of_tokenizer, digest_of_weights, settings_of_model
from unveil.likelihood.version import ESTIMATOR_VERSION
from unveil.models import unwrap
from unveil.models.adapters import starts_as_base
from unveil.training.draw_config import DrawConfig

if TYPE_CHECKING:
    from unveil.training.surrogate_trainer import SurrogateTrainer

FILE = "run_identity.json"
Identity = dict[str, Any]

# Arguments of transformers that the weights depend on. The learning rate and the length of the run are told apart.
_OF_TRANSFORMERS = (
    "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm", "warmup_steps", "lr_scheduler_type",
    "lr_scheduler_kwargs", "optim", "optim_args", "optim_target_modules", "seed", "data_seed", "bf16", "fp16", "tf32",
    "dataloader_drop_last", "train_sampling_strategy", "length_column_name", "neftune_noise_alpha",
    "label_smoothing_factor", "ignore_data_skip",
)  # fmt: skip
# Our own arguments that the weights do not depend on, or that something else here stands for.
_FREE = (
    "tokens_per_batch", "kept_tokens", "pack_by_answer", "eval_num_draws", "max_eval_samples", "on_bad_rows",
    "allow_one_label", "precompute_ref_log_probs", "ref_cache", "draw_seed", "resume_with_changes",
)  # fmt: skip
# Arguments that make the objective, which is compared as a whole: `--beta 0.1` and no --beta may be the same.
_OF_OBJECTIVE = (
    "objective", "objective_args", "beta", "desirable_weight", "undesirable_weight", "baseline", "sft_weight",
)  # fmt: skip
OBJECTIVE, LEARNING_RATE, LENGTH, HELD_OUT = "objective", "--learning_rate", "length", "held-out rows"
ADAPTERS = ("--use_peft", "--lora_r", "--lora_alpha", "--lora_target_modules", "--lora_dropout")
# A difference in these is told, but is no other run: going on longer, or more slowly, is what one resumes for.
_TOLD = (LEARNING_RATE, LENGTH, HELD_OUT)
_TRAINER, _SAVED = "trainer", "save_only_model"
_START, REFERENCE = "start model's weights", "reference model's weights"
# What differs for no other reason than something else that is named.
_FOLLOWS = {
    "--use_peft": (*ADAPTERS[1:], "adapters", "--dtype", _START, REFERENCE),
    "--dtype": (_START, REFERENCE),
    "--seed": ("--draw_seed",),
}
# Tensors of the checkpoint would not fit.
_NEVER = ("--use_peft", "--lora_r", "--lora_target_modules", "model's configuration")


def identity_of(trainer: "SurrogateTrainer", start: str) -> Identity:
    """Return what makes the run of a trainer.

    Args:
        trainer: before or while it trains.
        start: digest of the weights before the first step, adapters left out.
    """
    args, model = trainer.args, unwrap(trainer.policy)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    tokenizer: Any = trainer.processing_class
    found: Identity = {
        _TRAINER: trainer.kind,
        _SAVED: args.save_only_model,
        "estimator version": ESTIMATOR_VERSION,
        "training rows": content_of(trainer.train_dataset),
        _START: {"digest": start},
        "model's configuration": {"digest": digest(settings_of_model(model))},
        "--dtype": str(next(trainer.policy.parameters()).dtype).removeprefix("torch."),
        "answers per step (--per_device_train_batch_size x --gradient_accumulation_steps x processes)": batch,
        **{f"--{name}": _plain(getattr(args, name)) for name in _names(args)},
        "--draw_seed": args.plan_seed,
        LEARNING_RATE: args.learning_rate,
        LENGTH: {"max_steps": args.max_steps} if args.max_steps > 0 else {"num_train_epochs": args.num_train_epochs},
        HELD_OUT: content_of(trainer.eval_dataset),
        "tokenizer": {"digest": digest_of_tokenizer(tokenizer)} if hasattr(tokenizer, "get_vocab") else None,
        **adapters_of(trainer.policy),
        **trainer.own_identity(),
    }
    return json.loads(json.dumps(found))


def objective_identity(objective: Any, args: Any) -> Identity:
    """Return the objective as it is, and the flags that may have made it so."""
    flags = {f"--{name}": _plain(getattr(args, name)) for name in _OF_OBJECTIVE}
    return {OBJECTIVE: {"digest": digest(re.sub(r" at 0x[0-9a-f]+", "", repr(objective))), "flags": flags}}


def adapters_of(model: nn.Module) -> Identity:
    """Return what shapes LoRA adapters; without any, that there are none."""
    known: Any = getattr(model, "peft_config", None)
    if not known:
        return {"--use_peft": False}
    config = next(iter(known.values()))
    targets = config.target_modules
    return {
        "--use_peft": True,
        "--lora_r": config.r,
        "--lora_alpha": config.lora_alpha,
        "--lora_target_modules": targets if isinstance(targets, str) else sorted(targets or ()),
        "adapters": {
            "digest": digest(
                {name: str(getattr(config, name, None)) for name in ("use_rslora", "use_dora", "bias", "peft_type")}
            )
        },
    }


def content_of(rows: Any) -> Identity | None:
    """Return the number of rows (of tokens and labels) with a digest in their order, and one in any order."""
    if rows is None or not hasattr(rows, "__len__"):
        return None
    parts = rows.items() if isinstance(rows, Mapping) else [("", rows)]
    count, together, ordered = 0, 0, hashlib.sha256()
    for name, part in parts:
        for row in part.with_format(None) if hasattr(part, "with_format") else part:
            text = json.dumps([name, row], sort_keys=True, default=_plain)
            one = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
            ordered.update(one)
            together = (together + int.from_bytes(one[:16])) % 2**128
            count += 1
    return {"rows": count, "digest": ordered.hexdigest()[:32], "in any order": f"{together:032x}"}


def write_identity(folder: Path, identity: Identity) -> None:
    """Write the file into a checkpoint that is being filled."""
    write_json(folder / FILE, identity)


def read_identity(folder: Path) -> Identity | None:
    """Return what a checkpoint says of its run; None if it says nothing.

    Raises:
        UserError: the file cannot be read.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        found = read_json(folder / FILE)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / FILE}: cannot be read; resume from another checkpoint") from error
    if not isinstance(found, dict):
        raise UserError(f"{folder / FILE}: holds no JSON object; resume from another checkpoint")
    return found


def differences(there: Identity, here: Identity) -> tuple[list[str], list[str], bool]:
    """Compare a checkpoint's run with this one.

    Returns:
        What makes it another run, what may change and is told, and whether the tensors cannot fit.
    """
    names = [name for name in {**there, **here} if not _same(name, there.get(name), here.get(name))]
    for cause, follows in _FOLLOWS.items():
        if cause in names:
            names = [name for name in names if name not in follows]
    if _TRAINER in names:
        names = [_TRAINER]
    words = {name: _in_words(name, there.get(name), here.get(name)) for name in names}
    told = [said for name, said in words.items() if name in _TOLD]
    return [said for name, said in words.items() if name not in _TOLD], told, any(name in _NEVER for name in names)


def _same(name: str, old: Any, new: Any) -> bool:
    if name == HELD_OUT and (old is None or new is None):
        return True  # evaluating or not changes no step
    if name == _SAVED:
        return True
    if isinstance(old, dict) and isinstance(new, dict) and "digest" in old and "digest" in new:
        return old["digest"] == new["digest"]
    return old == new


def _in_words(name: str, old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        if name == OBJECTIVE:
            return _other_objective(old.get("flags", {}), new.get("flags", {}))
        if "rows" in old and "rows" in new:
            return f"other {name} ({_other_rows(old, new)})"
        if name == LENGTH:
            return " -> ".join(f"--{flag} {value}" for length in (old, new) for flag, value in length.items())
    if isinstance(old, dict) or isinstance(new, dict):
        return f"another {name}" if old and new and not name.endswith("s") else f"other {name}"
    return f"{name} {_shown(old)} -> {_shown(new)}"


def _other_rows(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if old["in any order"] == new["in any order"]:
        return "the same ones in another order"
    return f"{old['rows']} -> {new['rows']}" if old["rows"] != new["rows"] else f"{new['rows']} of other content"


def _other_objective(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    changed = [f"{name} {_shown(old.get(name))} -> {_shown(new[name])}" for name in new if new[name] != old.get(name)]
    return ", ".join(changed) or "another objective"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "unset" if value is None else str(value)


def _names(args: DrawConfig) -> Iterable[str]:
    """The arguments that are compared one by one."""
    inherited = {field.name for field in fields(TrainingArguments)}
    own = [field.name for field in fields(args) if field.name not in inherited]
    return [*_OF_TRANSFORMERS, *(name for name in own if name not in (*_FREE, *_OF_OBJECTIVE))]


def _plain(value: Any) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    value = getattr(value, "value", value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def start_of(model: nn.Module) -> str:
    """Return the digest of the weights that a run starts from, without those of new adapters."""
    return digest_of_weights(model, adapters=not starts_as_base(model))
