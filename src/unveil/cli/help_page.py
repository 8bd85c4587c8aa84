"""`--help` that can be read: one section per dataclass, one flag per entry, only the flags that matter."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from inspect import get_annotations

from transformers import TrainingArguments

# Flags of TrainingArguments that --help shows; the rest is one --help_all away.
SHOWN = {
    "output_dir", "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps",
    "learning_rate", "weight_decay", "max_grad_norm", "num_train_epochs", "max_steps", "lr_scheduler_type",
    "warmup_steps", "logging_steps", "eval_strategy", "eval_steps", "save_strategy", "save_steps",
    "save_total_limit", "seed", "bf16", "gradient_checkpointing", "report_to", "load_best_model_at_end",
    "metric_for_best_model", "resume_from_checkpoint", "push_to_hub", "use_cpu", "dataloader_drop_last",
}  # fmt: skip
# Our own that few need: one --help_all away too, and named where a message leads to them.
RARE = {
    "resume_with_changes", "kept_tokens", "strata_exponent", "size_exponent", "eubo_power", "row_budget",
    "pack_by_answer", "masks_per_size", "replay_num_draws", "replay_batch_size",
}  # fmt: skip
# Theirs are about their code; for a command line this is what matters.
HELP = {
    "output_dir": "Folder for checkpoints, the trained model, metrics.jsonl and run.json.",
    "per_device_train_batch_size": "Answers in one micro-batch.",
    "per_device_eval_batch_size": "Answers scored together in evaluation.",
    "gradient_accumulation_steps": "Micro-batches in one optimizer step; the baseline spans all of them.",
    "max_steps": "Optimizer steps; above 0 it replaces --num_train_epochs.",
    "max_grad_norm": "Longest gradient; 0 turns clipping off.",
    "report_to": "Trackers: none, all, trackio, wandb, tensorboard, ...",
    "eval_strategy": "Evaluate while training: no, steps or epoch; at the end always.",
    "eval_steps": "Steps between evaluations; unset: --logging_steps. Below 1, a share of the run.",
    "save_strategy": "When to save checkpoints: no, steps, epoch or best.",
    "save_steps": "Steps between checkpoints. Below 1, a share of the run.",
    "save_total_limit": "Checkpoints to keep; the best one is never removed.",
    "load_best_model_at_end": "End with the best checkpoint by --metric_for_best_model, not with the last.",
    "metric_for_best_model": "As in metrics.jsonl, such as eval_rewards/margins; unset: loss.",
    "push_to_hub": "Push the model to the Hugging Face hub with every save.",
    "seed": "Seed of initialisation, order of the rows and draws.",
    "dataloader_drop_last": "Drop the last batch if it is not full.",
    "gradient_checkpointing": "Recompute activations in the backward pass: less memory, more time.",
    "resume_from_checkpoint": "True for the last checkpoint in --output_dir, or the path of one.",
    "use_cpu": "Leave GPUs alone.",
}
# Sections of inherited fields, in this order after those of the commands themselves.
SECTIONS = {
    "PreferenceConfig": "Objective",
    "DrawConfig": "Likelihood: draws, limits, end of the answer",
    "TrainingArguments": "Optimizer, schedule, saving (transformers.TrainingArguments)",
}
_KINDS = {int: "INT", float: "FLOAT", str: "TEXT"}


class _Formatter(argparse.HelpFormatter):
    """One name and one kind of value per flag; the twins with dashes work, but are not shown."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=38, width=118)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = [name for name in action.option_strings if "-" not in name.removeprefix("--")]
        if action.nargs == 0 or (action.nargs == "?" and action.default is False):
            return ", ".join(names)
        kind = action.metavar or _KINDS.get(action.type, "BOOL")  # type: ignore[arg-type]
        if action.choices:
            kind = "TEXT"
        return f"{', '.join(names)} {kind}{' ...' if action.nargs == '+' else ''}"


def help_page(
    parser: argparse.ArgumentParser, dataclass_types: Sequence[type], description: str, everything: bool
) -> str:
    """The text of `--help`, or with `everything` of `--help_all`."""
    actions = {action.dest: action for action in reversed(parser._actions) if action.option_strings}
    sections: dict[str, list[argparse.Action]] = {}
    later: dict[str, list[argparse.Action]] = {title: [] for title in SECTIONS.values()}
    for dataclass_type in dataclass_types:
        for field in fields(dataclass_type):
            owner = next(c for c in reversed(dataclass_type.__mro__) if field.name in get_annotations(c))
            shown = field.name in SHOWN if owner is TrainingArguments else field.name not in RARE
            if not (shown or everything):
                continue
            theirs = owner is TrainingArguments and not everything
            action = _explained(actions[field.name], HELP.get(field.name) if theirs else None, everything)
            if owner.__name__ in SECTIONS:
                later[SECTIONS[owner.__name__]].append(action)
            else:
                title = (dataclass_type.__doc__ or "").strip().split("\n")[0]
                sections.setdefault(title, []).append(action)
    sections["Other"] = [
        argparse.Action(
            ["--config"], "config", metavar="FILE", help="YAML file with flags as keys; flags win over it."
        ),
        argparse.Action(
            ["--help_all"], "help_all", nargs=0, help="Show every flag, rare ones and those of transformers included."
        ),
    ]
    formatter = _Formatter(parser.prog)
    formatter.add_usage(f"{parser.prog} [--config FILE.yaml] [flags]", [], [])
    formatter.add_text(description)
    for title, members in {**sections, **later}.items():
        if title != "Other" and members:
            _add_section(formatter, title, members)
    _add_section(formatter, "Other", sections["Other"])
    return formatter.format_help().rstrip()


def _add_section(formatter: argparse.HelpFormatter, title: str, actions: list[argparse.Action]) -> None:
    formatter.start_section(title)
    formatter.add_arguments(actions)
    formatter.end_section()


def _explained(action: argparse.Action, better: str | None, everything: bool) -> argparse.Action:
    """The flag with its default after its help, which is one sentence unless all is asked for."""
    text = better or (action.help or "").replace("(default: %(default)s)", "")
    if len(text) > 120 and not everything:
        text = text.split(". ")[0].removesuffix(".") + "."
    default = getattr(action.default, "value", action.default)
    if default not in (None, argparse.SUPPRESS, [], "") and default is not False:
        text += f" [{default}]"
    action.help = text.replace("%", "%%")  # a plain `%` is no format code
    return action
