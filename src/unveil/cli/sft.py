"""`unveil sft`: masked-diffusion fine-tuning of a model, or training of a new one from a config and a tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from datasets import Dataset
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from unveil.cli.options import DataArguments, ModelArguments, needed
from unveil.cli.parser import parse
from unveil.data import describe_example, load_rows, sft_rows
from unveil.errors import UserError
from unveil.files import require_empty
from unveil.models import Denoiser, check_tokenizer, load_denoiser_model, load_tokenizer
from unveil.training import SFTConfig, SFTTrainer, add_adapters, checkpoint_to_resume, finish_run, tokenize

DESCRIPTION = """Minimise the negative ELBO per answer token (LLaDA's objective) on prompt + completion, text or
messages. With --init_from_config a new model is made; without, --model_name_or_path is fine-tuned."""


@dataclass
class SFTScriptArguments(DataArguments):
    """Where a new model starts from."""

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
    if script.init_from_config:
        name = needed(model_args.tokenizer_name_or_path, "--tokenizer_name_or_path", "the new model's tokenizer")
        tokenizer = load_tokenizer(name)
        model = new_model(script.init_from_config)
        check_tokenizer(tokenizer, model)
        return model, tokenizer
    name = needed(model_args.model_name_or_path, "--model_name_or_path", "a model, or --init_from_config")
    tokenizer = load_tokenizer(model_args.tokenizer_name_or_path or name, model_args.model_revision)
    dtype = model_args.dtype or ("auto" if model_args.use_peft else "float32")
    model = load_denoiser_model(
        name, dtype, model_args.model_revision, model_args.attn_implementation, tokenizer=tokenizer
    )
    return model, tokenizer


def main(argv: Sequence[str]) -> None:
    """Parse, load, train, save."""
    script, args, model_args = parse(
        (SFTScriptArguments, SFTConfig, ModelArguments), argv, "unveil sft", DESCRIPTION
    )
    source = needed(script.dataset_name, "--dataset_name", "a hub name or a file")
    output_dir = needed(args.output_dir, "--output_dir", "a folder for the results")
    checkpoint = checkpoint_to_resume(output_dir, args.resume_from_checkpoint)
    if checkpoint is None:
        require_empty(output_dir, script.overwrite)
    set_seed(args.seed)
    model, tokenizer = load(script, model_args)
    denoiser = Denoiser(model)

    def responses(name: str, split: str, flag: str) -> Dataset:
        rows = load_rows(name, script.split_of(name, split), script.dataset_config, flag)
        rows = sft_rows(rows, name, column_map=script.columns(), on_bad_rows=args.on_bad_rows)  # type: ignore[arg-type]
        return tokenize(rows, tokenizer, denoiser, args, name)

    train_dataset = responses(source, script.dataset_train_split, "--dataset_name")
    eval_dataset = None
    if script.eval_dataset_name:
        eval_dataset = responses(script.eval_dataset_name, script.dataset_test_split, "--eval_dataset_name")
    print(f"{len(train_dataset)} answers to learn from; the first:\n{describe_example(train_dataset[0], tokenizer)}")
    trained = model
    if model_args.use_peft:
        trained = add_adapters(
            model, model_args.lora_r, model_args.lora_alpha, model_args.lora_dropout, model_args.lora_target_modules
        )
    trainer = SFTTrainer(
        trained, args, train_dataset=train_dataset, eval_dataset=eval_dataset, processing_class=tokenizer
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    finish_run(trainer, source)
