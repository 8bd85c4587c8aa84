"""`unveil sft`: masked-diffusion fine-tuning of a model, or training of a new one from a config and a tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from datasets import Dataset
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from unveil.cli.loading import read_tokenizer
from unveil.cli.options import DataArguments, ModelArguments, needed
from unveil.cli.output import command
from unveil.cli.parser import parse
from unveil.cli.training_run import (
    adapted,
    held_out_rows,
    held_out_source,
    load_to_train,
    open_output,
    run,
    tell,
)
from unveil.data import describe_example, sft_rows
from unveil.data.prompt_weights import tell_of_idle_weight
from unveil.errors import UserError
from unveil.models import Denoiser, check_tokenizer, settle_mask_token
from unveil.training import SFTConfig, SFTTrainer, tokenize

DESCRIPTION = """Minimise the negative ELBO per answer token (LLaDA's objective) on prompt + completion, text or
messages. With --init_from_config a new model is made; without, --model_name_or_path is fine-tuned."""
PASSES = 1


@dataclass
class SFTScriptArguments(DataArguments):
    """Which data to learn from, and where a new model starts"""

    init_from_config: str | None = field(
        default=None, metadata={"help": "config.json of a new model with random weights (needs a tokenizer)."}
    )


def new_model(config_file: str) -> PreTrainedModel:
    """Random weights for the architecture that a config.json describes."""
    try:
        return AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(config_file))
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"--init_from_config {config_file}: {' '.join(str(error).split())[:200]}") from error


def load(script: SFTScriptArguments, model_args: ModelArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer, checked against one another."""
    if not script.init_from_config:
        name = needed(model_args.model_name_or_path, "--model_name_or_path", "a model, or --init_from_config")
        return load_to_train(model_args, name)
    name = needed(model_args.tokenizer_name_or_path, "--tokenizer_name_or_path", "the new model's tokenizer")
    tokenizer = read_tokenizer(model_args, name)
    model = new_model(script.init_from_config)
    settle_mask_token(model, tokenizer, model_args.mask_token_id)
    check_tokenizer(tokenizer, model)
    return model, tokenizer


def main(argv: Sequence[str]) -> None:
    """Parse, read, load, train, evaluate, save."""
    model_args, script, args = parse(
        (ModelArguments, SFTScriptArguments, SFTConfig),
        argv,
        "unveil sft",
        DESCRIPTION,
        required={"dataset_name": "a hub name or a file", "output_dir": "a folder for the results"},
    )
    checkpoint = open_output(args, script.overwrite, argv, model_args, script)
    set_seed(args.seed)

    def read(name: str, split: str | None, otherwise: str, flag: str) -> Dataset:
        rows = script.read(name, split, otherwise, flag, args.on_bad_rows)
        found = sft_rows(
            rows, name, column_map=script.columns(), on_bad_rows=args.on_bad_rows, label_map=script.labels()
        )
        if flag == "--dataset_name":
            tell_of_idle_weight(rows.rename_columns(script.columns() or {}), name)
        return found

    def read_held_out(name: str) -> Dataset:
        return read(name, script.dataset_test_split, "test", "--eval_dataset_name")

    source, held_out_name = str(script.dataset_name), held_out_source(script, args)
    rows = read(source, script.dataset_train_split, "train", "--dataset_name")
    rows, held_out = held_out_rows(script, args, rows, held_out_name, read_held_out)
    model, tokenizer = load(script, model_args)
    denoiser = Denoiser(model)
    train_dataset = tokenize(rows, tokenizer, denoiser, args, source)
    if held_out is not None:
        held_out = tokenize(held_out, tokenizer, denoiser, args, str(held_out_name))
    first = describe_example(train_dataset[0], tokenizer)
    tell(args, f"{len(train_dataset)} answers to learn from; the first:\n{first}")
    trainer = SFTTrainer(
        adapted(model, model_args),
        args,
        train_dataset=train_dataset,
        eval_dataset=held_out,
        processing_class=tokenizer,
    )
    record = {
        "model": model_args.model_name_or_path or script.init_from_config,
        "held_out": held_out_name,
        "fingerprints": {"train_dataset": train_dataset._fingerprint},
    }
    run(trainer, checkpoint, source, PASSES, record)
    output, data = str(args.output_dir), held_out_name or source
    tell(
        args,
        f"saved in {output}; next:",
        command("unveil", "generate", "--model_name_or_path", output, "--prompt", "..."),
        command("unveil", "likelihood", "--model_name_or_path", output, "--dataset_name", data),
    )
