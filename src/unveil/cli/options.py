"""Flags shared by the commands: where the model and the data are. Names are TRL's where TRL has one."""

from dataclasses import dataclass, field
from pathlib import Path

from unveil.errors import UserError


@dataclass
class LoadArguments:
    """Which model, in which precision"""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Hub name or folder of the model, or folder of LoRA adapters."}
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a hub model."})
    tokenizer_name_or_path: str | None = field(default=None, metadata={"help": "Tokenizer, if not beside the model."})
    chat_template_path: str | None = field(
        default=None, metadata={"help": "Jinja file that turns messages into text, instead of the tokenizer's own."}
    )
    mask_token_id: int | None = field(
        default=None, metadata={"help": "Id of the mask token, where neither config nor tokenizer names one."}
    )
    dtype: str | None = field(
        default=None, metadata={"help": "float32, bfloat16 or float16; unset: as in the checkpoint."}
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "Attention kernel, as in transformers."})


@dataclass
class UseArguments(LoadArguments):
    """Which model, in which precision, where"""

    device: str | None = field(default=None, metadata={"help": "cpu, cuda, cuda:1, ...; unset: a GPU if there is one."})


@dataclass
class ModelArguments(LoadArguments):
    """Which model, in which precision, with which adapters"""

    dtype: str | None = field(
        default=None,
        metadata={"help": "float32, bfloat16 or float16; unset: float32, with adapters as in the checkpoint."},
    )
    use_peft: bool = field(default=False, metadata={"help": "Train LoRA adapters instead of all weights."})
    lora_r: int = field(default=16, metadata={"help": "LoRA rank."})
    lora_alpha: int = field(default=32, metadata={"help": "LoRA alpha."})
    lora_dropout: float = field(default=0.05, metadata={"help": "LoRA dropout (0 under --disable_dropout)."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Modules to adapt; unset: every linear layer of the blocks, not the head."}
    )


@dataclass
class RowArguments:
    """Which data"""

    dataset_name: str | None = field(
        default=None, metadata={"help": "Hub name, or a local .jsonl, .json, .parquet or .csv file, or a folder."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a hub dataset."})
    column_map: list[str] | None = field(
        default=None, metadata={"help": "Columns under other names, as given=wanted: kto_tag=label."}
    )

    def split_of(self, name: str, split: str) -> str:
        """A single local file has no splits, so all of it is meant."""
        return "train" if Path(name).is_file() else split

    def columns(self) -> dict[str, str] | None:
        """`--column_map a=b` as a dictionary."""
        names: dict[str, str] = {}
        for item in self.column_map or []:
            given, _, wanted = item.partition("=")
            if not (given and wanted):
                raise UserError(f"--column_map {item}: must look like given=wanted, as in kto_tag=label")
            names[given] = wanted
        return names or None


@dataclass
class DataArguments(RowArguments):
    """Which data to train on"""

    dataset_train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_dataset_name: str | None = field(
        default=None, metadata={"help": "Held-out data in the same format; scored at the end, see --eval_strategy."}
    )
    dataset_test_split: str = field(
        default="test", metadata={"help": "Split of --eval_dataset_name, where it has any."}
    )
    overwrite: bool = field(default=False, metadata={"help": "Allow an output folder that is not empty."})


@dataclass
class HeldOutArguments(RowArguments):
    """Which data to use"""

    dataset_split: str = field(default="test", metadata={"help": "Split of the data, where it has any."})
    max_samples: int | None = field(default=None, metadata={"help": "Use the first so many rows only."})
    max_prompt_length: int | None = field(default=None, metadata={"help": "Keep the last so many tokens of a prompt."})
    on_bad_rows: str = field(default="error", metadata={"help": "Rows that cannot be used: error, or drop and count."})
    overwrite: bool = field(default=False, metadata={"help": "Allow an output that exists already."})

    def __post_init__(self) -> None:
        if self.max_samples is not None and self.max_samples < 1:
            raise UserError(f"--max_samples {self.max_samples}: at least 1 row is needed")


def needed(value: str | None, flag: str, what: str) -> str:
    """The value of a flag that a command cannot do without."""
    if not value:
        raise UserError(f"{flag}: is missing; give {what}")
    return value
