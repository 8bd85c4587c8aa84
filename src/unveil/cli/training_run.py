"""What `unveil train` and `unveil sft` share: the output folder, the model, the run and its end."""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel
from rich.table import Table
from torch import nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
)

from unveil.cli.inputs import refuse_to_lose_inputs
from unveil.cli.interruption import Interrupted, StopWhenAsked, what_is_kept
from unveil.cli.loading import read_model, read_tokenizer
from unveil.cli.options import DataArguments, ModelArguments
from unveil.cli.progress import ProgressLines, shown_metrics
from unveil.data import shared_prompts, split_by_prompt
from unveil.errors import UserError, warn_user
from unveil.files import require_empty
from unveil.locks import claim_folder
from unveil.models.merging import ENOUGH, merge_adapters
from unveil.terminal import PlainConsole, say
from unveil.training import add_adapters, checkpoint_to_resume, finish_run, finished_run
from unveil.training.checkpoint import last_checkpoint_in
from unveil.training.draw_config import DrawConfig
from unveil.training.resuming import missing_states
from unveil.training.surrogate_trainer import SurrogateTrainer

# What a run leaves at the top of its folder.
AT_THE_TOP = (
    "metrics.jsonl", "run.json", "trainer_state.json", "training_args.bin", "config.json",
    "generation_config.json", "model.safetensors*", "model-*.safetensors", "adapter_config.json",
    "adapter_model.safetensors", "base_model.json", "checksums.json", ".checkpoint-*",
)  # fmt: skip
# Left-overs of another run beside a new one would be mistaken for its own.
LEFT_BEHIND = ("checkpoint-*", ".saving", ".pushing", *AT_THE_TOP)


def open_output(args: DrawConfig, overwrite: bool, argv: Sequence[str], *others: Any) -> str | None:
    """The checkpoint to resume from, if any; else the output folder must be free. No other process may use it now.

    Raises:
        UserError: a folder with something in it or with something that the run reads, no checkpoint to resume from,
            another process in the folder, a place where no folder can be.
    """
    output = Path(str(args.output_dir))
    if args.process_index == 0:
        claim_folder(output)
    last = last_checkpoint_in(output)
    if last is None and _asks_to_go_on(args) and (output / "run.json").is_file():
        return None  # it may be finished: `run` finds out
    checkpoint = checkpoint_to_resume(str(output), args.resume_from_checkpoint)
    goes_on = _goes_on(output, checkpoint)
    # A run that goes on adds checkpoints and writes its end at the top; another one clears the folder.
    places = [path for name in AT_THE_TOP for path in output.glob(name)] if goes_on else [output]
    refuse_to_lose_inputs(places, "--output_dir", argv, args, *others)
    if goes_on:
        return checkpoint
    if last and not overwrite and not missing_states(last, args):
        raise UserError(
            f"--output_dir {output}: the folder is not empty, {last.name} of a run is there; give "
            "--resume_from_checkpoint True to go on with it, another folder, or --overwrite to remove it and start anew"
        )
    require_empty(output, overwrite)
    return checkpoint


def _asks_to_go_on(args: DrawConfig) -> bool:
    """Whether the last checkpoint of the output folder is meant."""
    return str(args.resume_from_checkpoint).lower() == "true"


def _goes_on(output: Path, checkpoint: str | None) -> bool:
    """Whether the run continues one that is in this folder."""
    return checkpoint is not None and Path(checkpoint).resolve().parent == output.resolve()


def held_out_source(script: DataArguments, args: DrawConfig) -> str | None:
    """Where held-out rows come from: `--eval_dataset_name`, or as in TRL a split (or part) of `--dataset_name`.

    Raises:
        UserError: flags that name more than one, or evaluation without any.
    """
    other = "--eval_dataset_name" if script.eval_dataset_name else "--dataset_test_split"
    if script.eval_size is not None and (script.eval_dataset_name or script.dataset_test_split):
        raise UserError(f"--eval_size: holds out rows of --dataset_name, and {other} names others; give one of them")
    if script.eval_dataset_name:
        return script.eval_dataset_name
    if script.eval_size is not None or script.dataset_test_split is not None:
        return script.dataset_name
    if args.eval_strategy == "no":
        return None
    if Path(str(script.dataset_name)).expanduser().is_file():
        raise UserError(
            "--eval_strategy: there are no held-out rows to evaluate on; give --eval_dataset_name or --eval_size 0.1"
        )
    return script.dataset_name


def held_out_rows(
    script: DataArguments, args: DrawConfig, rows: Dataset, name: str | None, read: Callable[[str], Dataset]
) -> tuple[Dataset, Dataset | None]:
    """(rows to train on, held-out rows): a part of `rows` by `--eval_size`, or what `read` gives of `name`, if any.

    Says how many held-out rows have a prompt that is trained on.
    """
    if name is None:
        return rows, None
    if script.eval_size is not None:
        return split_by_prompt(rows, script.eval_size, args.seed, name)
    held_out = read(name)
    if said := shared_prompts(rows, held_out, name):
        tell(args, f"warning: {said}")
    return rows, held_out


def load_to_train(model_args: ModelArguments, name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer: float32 to train all weights, as in the checkpoint to adapt.

    Of a folder of adapters, `--use_peft` goes on training them; without it they are merged, to train all weights.
    """
    tokenizer = read_tokenizer(model_args, name)
    if not model_args.use_peft:
        model = merged_to_train(model_args, read_model(model_args, name, tokenizer, model_args.dtype or "float32"))
        if model.dtype.itemsize < 4:
            warn_user(
                f"--dtype {model_args.dtype}: all weights are trained in {str(model.dtype).removeprefix('torch.')}, "
                "whose steps are too coarse for small learning rates (1e-6 moves almost no weight); leave --dtype out"
            )
        return model, tokenizer
    model = read_model(model_args, name, tokenizer, model_args.dtype, trainable=True)
    if isinstance(model, PeftModel):
        _refuse_other_shape(model_args, name, model)
    return model, tokenizer


def merged_to_train(model_args: ModelArguments, model: PreTrainedModel) -> PreTrainedModel:
    """A model whose weights may all be trained; adapters are merged into them."""
    if not isinstance(model, PeftModel):
        return model
    model, kept = merge_adapters(model)
    if kept.share < ENOUGH:
        warn_user(
            f"--dtype {model_args.dtype}: rounding leaves {kept.share:.0%} of what the adapters of "
            f"{model_args.model_name_or_path} add; leave --dtype out, or give --use_peft to go on with the adapters"
        )
    return model.requires_grad_(True)


def _refuse_other_shape(model_args: ModelArguments, name: str, model: PeftModel) -> None:
    """Adapters that go on being trained keep their shape: flags that ask for another are not passed over."""
    config: Any = model.active_peft_config
    given = {"lora_r": getattr(config, "r", None), "lora_alpha": getattr(config, "lora_alpha", None)}
    wrong = [
        f"--{flag} {getattr(model_args, flag)}"
        for flag, there in given.items()
        if getattr(model_args, flag) not in (getattr(ModelArguments, flag), there)
    ]
    wrong += ["--lora_target_modules"] if model_args.lora_target_modules else []
    if wrong:
        raise UserError(
            f"{', '.join(wrong)}: the adapters of {name} go on being trained as they are; leave the flag out, or merge "
            "them first (`unveil merge`) to train new ones"
        )


def adapted(model: nn.Module, model_args: ModelArguments) -> nn.Module:
    """The model, wrapped in adapters if `--use_peft` says so and it has none."""
    if not model_args.use_peft or isinstance(model, PeftModel):
        return model
    return add_adapters(
        model,
        model_args.lora_r,
        model_args.lora_alpha,
        model_args.lora_dropout,
        model_args.lora_target_modules,
        model_args.model_revision,
    )


def tell(args: DrawConfig, *lines: str) -> None:
    """Print on the main process only."""
    if args.process_index == 0:
        say(*lines)


def run(
    trainer: SurrogateTrainer, checkpoint: str | None, source: str, passes_per_row: int, record: dict[str, Any]
) -> dict[str, float]:
    """Train, evaluate the end, save model, card and `run.json`; returns (and records) the `results`.

    A run that is finished already is left as it is. One that is interrupted says what it leaves.
    """
    output = Path(str(trainer.args.output_dir))
    if _asks_to_go_on(trainer.args):
        done = finished_run(trainer)
        if done is not None:
            tell(
                trainer.args,
                f"{output}: this run is finished ({done['steps']} steps), nothing was changed; more --num_train_epochs "
                "or --max_steps go on with it",
            )
            return done["results"]
        checkpoint = checkpoint_to_resume(str(output), True)
    lines, stop = ProgressLines(len(trainer.train_dataset), passes_per_row), StopWhenAsked(trainer)  # type: ignore[arg-type]
    if trainer.args.device.type == "cpu":
        trainer.args.dataloader_pin_memory = False
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if trainer.args.should_save and not _goes_on(output, checkpoint):
        trainer.add_callback(ClearedOutput(output))
    trainer.add_callback(lines)
    trainer.add_callback(stop)
    try:
        outcome = trainer.train(resume_from_checkpoint=checkpoint)
    except KeyboardInterrupt:
        raise Interrupted(what_is_kept(trainer, checkpoint), stop.code) from None
    finally:
        stop.close()
        lines.close()
    held_out = _final_evaluation(trainer)
    logs = [log for log in trainer.state.log_history if "loss" in log]
    results: dict[str, float] = {**(logs[-1] if logs else {}), **held_out, "seconds": outcome.metrics["train_runtime"]}
    results = {k: v for k, v in results.items() if isinstance(v, int | float) and math.isfinite(v) and k != "step"}
    finish_run(trainer, source, {**record, "results": results})
    if trainer.args.process_index == 0:
        _print_results(logs, held_out)
    return results


class ClearedOutput(TrainerCallback):
    """Removes what an earlier run left, once nothing stands against the new one (`--overwrite` was given)."""

    def __init__(self, output: Path) -> None:
        self.output = output

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        for pattern in LEFT_BEHIND:
            for path in self.output.glob(pattern):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _final_evaluation(trainer: SurrogateTrainer) -> dict[str, float]:
    """Metrics of the model that is saved, where there is held-out data."""
    if trainer.eval_dataset is None:
        return {}
    last = [log for log in trainer.state.log_history if "eval_loss" in log][-1:]
    if last and last[0]["step"] == trainer.state.global_step and not trainer.args.load_best_model_at_end:
        return {name: value for name, value in last[0].items() if name.startswith("eval_")}
    return trainer.evaluate()


def _print_results(logs: list[dict[str, Any]], held_out: dict[str, float]) -> None:
    """A table: the first log, the last one, held-out rows after training."""
    columns = {f"step {log['step']}": log for log in (logs[:1] + logs[-1:])}
    if held_out:
        columns["held out"] = {name.removeprefix("eval_"): value for name, value in shown_metrics(held_out).items()}
    table = Table("", *columns)
    names = dict.fromkeys(name for values in columns.values() for name in shown_metrics(values))
    for name in names:
        table.add_row(name, *[f"{values[name]:.4g}" if name in values else "" for values in columns.values()])
    if names:
        PlainConsole(width=100).print(table)
