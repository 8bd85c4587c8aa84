"""Refuse arguments of `transformers.TrainingArguments` that would end in a traceback, or that do nothing here.

They are looked at when the arguments are made, before a model is loaded. transformers looks at most of them when it
needs them, hours later at worst.
"""

import math
from dataclasses import fields
from typing import Any

import torch
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from unveil.errors import UserError, shortened, warn_user

# Least values of counts; none has a use above MOST.
COUNTS = {
    "per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 1,
    "max_steps": -1, "save_total_limit": 1, "dataloader_num_workers": 0, "dataloader_prefetch_factor": 1,
    "torch_empty_cache_steps": 1, "ddp_bucket_cap_mb": 1, "ddp_timeout": 1, "max_length": 1, "max_prompt_length": 1,
    "canvas_length": 1, "max_eval_samples": 1,
}  # fmt: skip
MOST = 2**31 - 1
LIMITS = {"dataloader_num_workers": 256, "seed": 2**32 - 1, "data_seed": 2**32 - 1, "draw_seed": 2**63 - 1}
# Amounts with their least value and whether it is itself allowed.
AMOUNTS = {
    "learning_rate": (0, True), "weight_decay": (0, True), "adam_epsilon": (0, True), "warmup_steps": (0, True),
    "eval_delay": (0, True), "logging_steps": (0, False), "eval_steps": (0, False), "save_steps": (0, False),
}  # fmt: skip
SHARES = ("adam_beta1", "adam_beta2")

# What changes numbers in transformers' own loop, and would be believed to do so here: refused, with the reason.
WITHOUT_MEANING = {
    "label_smoothing_factor": "a likelihood has no smoothed labels (for wrong labels see cdpo and rdpo in `unveil "
    "objectives`); leave it out",
    "neftune_noise_alpha": "policy, reference and both passes must see the same embeddings; leave it out",
    "remove_unused_columns": "the trainer reads columns that the model does not; leave it out",
    "auto_find_batch_size": "--tokens_per_batch bounds the memory whatever the batch; leave it out",
    "include_num_input_tokens_seen": "num_tokens in metrics.jsonl counts every token already; leave it out",
    "use_liger_kernel": "its kernels serve the losses of causal language models; leave it out",
    "label_names": "the labels are those of the data; leave it out",
}
# What belongs to transformers' evaluation loop or to its scripts: harmless, and said to do nothing.
WITHOUT_EFFECT = (
    "prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps",
    "include_for_metrics", "batch_eval_metrics", "do_train", "do_eval", "do_predict", "length_column_name",
)  # fmt: skip
_COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def check_values(args: Any) -> None:
    """Refuse numbers outside their range and arguments without meaning; warn of those without effect.

    Raises:
        UserError: naming the flag, its value and what is needed.
    """
    for field in fields(args):
        value = getattr(args, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--{field.name} {value}: must be a finite number")
    for name, least in (dict.fromkeys(LIMITS, 0) | COUNTS).items():
        _in_range(args, name, least, LIMITS.get(name, MOST))
    for name, (least, allowed) in AMOUNTS.items():
        value = getattr(args, name, None)
        if isinstance(value, int | float) and (value < least or (value == least and not allowed)):
            raise UserError(f"--{name} {value}: must be {'at least' if allowed else 'above'} {least}")
    for name in SHARES:
        if not 0 <= getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: must be at least 0 and below 1")
    if args.max_steps <= 0 and args.num_train_epochs <= 0:
        raise UserError(f"--num_train_epochs {args.num_train_epochs}: nothing would be trained; give more than 0")
    if args.dataloader_num_workers == 0 and (args.dataloader_persistent_workers or args.dataloader_prefetch_factor):
        name = "prefetch_factor" if args.dataloader_prefetch_factor else "persistent_workers"
        raise UserError(f"--dataloader_{name}: needs --dataloader_num_workers above 0; give both or none")
    _check_meaning(args)


def _in_range(args: Any, name: str, least: int, most: int) -> None:
    value = getattr(args, name, None)
    if value is None or isinstance(value, str):
        return
    if value < least:
        hint = "; leave it out to keep all" if name == "save_total_limit" else ""
        raise UserError(f"--{name} {value}: must be at least {least}{hint}")
    if value > most:
        raise UserError(f"--{name} {shortened(value)}: must be at most {most}")


def _check_meaning(args: Any) -> None:
    for name, why in WITHOUT_MEANING.items():
        if getattr(args, name) not in (None, False, 0, "no", []):
            raise UserError(f"--{name} {shortened(getattr(args, name))}: {why}")
    if args.train_sampling_strategy not in ("random", "sequential"):
        raise UserError(
            f"--train_sampling_strategy {args.train_sampling_strategy}: nothing is padded, so rows need no sorting by "
            "length; leave it out"
        )
    defaults = {field.name: field.default for field in fields(args)}
    given = [name for name in WITHOUT_EFFECT if getattr(args, name) not in (None, [], defaults[name])]
    if given:
        warn_user(f"{', '.join(f'--{name}' for name in given)}: without effect here", stacklevel=5)


def check_parts(args: TrainingArguments) -> None:
    """Refuse an optimizer, a schedule, a tracker or a compiler that cannot be made.

    Raises:
        UserError: naming the flag and what its library says.
    """
    trackers = [args.report_to] if isinstance(args.report_to, str) else args.report_to or []
    for name in trackers:
        if name not in INTEGRATION_TO_CALLBACK:
            raise UserError(f"--report_to {name}: unknown; choose of none, all, {', '.join(INTEGRATION_TO_CALLBACK)}")
        if name not in get_available_reporting_integrations():
            raise UserError(f"--report_to {name}: is not installed; `pip install {name}`, or give --report_to none")
    if args.torch_compile_mode and args.torch_compile_mode not in _COMPILE_MODES:
        raise UserError(f"--torch_compile_mode {args.torch_compile_mode}: choose one of {', '.join(_COMPILE_MODES)}")
    backend = args.torch_compile_backend
    if backend is not None and backend not in torch._dynamo.list_backends(exclude_tags=()):
        names = ", ".join(torch._dynamo.list_backends())
        raise UserError(f"--torch_compile_backend {backend}: choose one of {names}")
    optimizer = _made("--optim", str(getattr(args.optim, "value", args.optim)), lambda: _optimizer(args))
    kind: Any = args.lr_scheduler_type
    settings: Any = {} if args.lr_scheduler_kwargs is None else args.lr_scheduler_kwargs
    name = str(getattr(kind, "value", kind))
    if not isinstance(settings, dict):
        raise UserError(f"--lr_scheduler_kwargs {shortened(settings)}: must be a mapping, as in '{{\"min_lr\": 1e-7}}'")
    _made(
        "--lr_scheduler_type",
        name,
        lambda: get_scheduler(
            kind, optimizer, num_warmup_steps=1, num_training_steps=10, scheduler_specific_kwargs=dict(settings)
        ),
        "give its settings by --lr_scheduler_kwargs, or choose another",
    )


def _optimizer(args: TrainingArguments) -> torch.optim.Optimizer:
    """An optimizer of a single weight, as transformers would make it of all.

    One that looks for layers to project (GaLore, APOLLO, LOMO) is made with the model: its place is taken by SGD.
    """
    layer = torch.nn.Linear(1, 1)
    if args.optim_target_modules or any(name in str(args.optim) for name in ("galore", "apollo", "lomo")):
        return torch.optim.SGD(layer.parameters())
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(args, layer)  # type: ignore[arg-type]
    return kind(layer.parameters(), **settings)


def _made(flag: str, name: str, make: Any, remedy: str = "choose another one, or install what it needs") -> Any:
    try:
        return make()
    except UserError:
        raise
    except Exception as error:  # each library has errors of its own
        raise UserError(f"{flag} {name}: {' '.join(str(error).split())[:200]}; {remedy}") from error
