"""Flags shared by the commands: where the model and the data are. Names are TRL's where TRL has one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

from unveil.data import load_rows, parse_label_map
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
        default=None,
        metadata={"help": "float32, bfloat16 or float16; unset: as in the checkpoint, of adapters as trained."},
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
    use_peft: bool = field(
        default=False, metadata={"help": "Train LoRA adapters instead of all weights; those of the model, if it has."}
    )
    lora_r: int = field(default=16, metadata={"help": "LoRA rank."})
    lora_alpha: int = field(default=32, metadata={"help": "LoRA alpha."})
    lora_dropout: float = field(default=0.05, metadata={"help": "LoRA dropout (0 under --disable_dropout)."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={"help": "Names, a pattern or all-linear; unset: every linear layer of the blocks, not the head."},
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

    def read(
        self,
        name: str,
        split: str | None,
        otherwise: str,
        flag: str = "--dataset_name",
        on_bad_rows: str = "error",
    ) -> Dataset:
        """Rows of a split of `name`, as given or `otherwise`; where none is given, all of a single local file."""
        single = Path(name).expanduser().is_file()
        bad_rows: Any = on_bad_rows
        return load_rows(
            name,
            split or ("train" if single else otherwise),
            self.dataset_config,
            flag,
            on_bad_rows=bad_rows,
            column_map=self.columns(),
            label_map=self.labels(),
        )

    def labels(self) -> dict[str, bool] | None:
        """`--label_map`, of a command that has it."""
        return parse_label_map(getattr(self, "label_map", None))

    def columns(self) -> dict[str, str] | None:
        """`--column_map a=b` as a dictionary."""
        names: dict[str, str] = {}
        for item in self.column_map or []:
            given, _, wanted = item.partition("=")
            if not (given and wanted):
                raise UserError(f"--column_map {item}: must look like given=wanted, as in kto_tag=label")
            names[given] = wanted
        return names or None


LABEL_MAP = "What labels mean: thumbs_up=true,-1=false; unset: true/false, and the usual words and numbers."


@dataclass
class DataArguments(RowArguments):
    """Which data to train on"""

    label_map: list[str] | None = field(default=None, metadata={"help": LABEL_MAP})
    dataset_train_split: str = field(
        default="train", metadata={"help": "Split to train on, or a part of it, of a file too: train[:90%]."}
    )
    eval_dataset_name: str | None = field(
        default=None, metadata={"help": "Held-out data in the same format; scored at the end, see --eval_strategy."}
    )
    dataset_test_split: str | None = field(
        default=None,
        metadata={
            "help": "Split to hold out, of --eval_dataset_name or else of --dataset_name, such as train[90%:]; unset: "
            "test, or all of a file."
        },
    )
    eval_size: float | None = field(
        default=None,
        metadata={"help": "Hold out this share (or number) of the prompts of --dataset_name, by --seed, instead."},
    )
    overwrite: bool = field(default=False, metadata={"help": "Allow an output folder that is not empty."})


@dataclass
class HeldOutArguments(RowArguments):
    """Which data to use"""

    dataset_split: str | None = field(
        default=None,
        metadata={"help": "Split of the data, or a part of it: train[10:20]; unset: test, or all of a file."},
    )
    max_samples: int | None = field(default=None, metadata={"help": "Use the first so many rows only."})
    max_prompt_length: int | None = field(default=None, metadata={"help": "Keep the last so many tokens of a prompt."})
    on_bad_rows: str = field(default="error", metadata={"help": "Rows that cannot be used: error, or drop and count."})
    overwrite: bool = field(default=False, metadata={"help": "Allow an output that exists already."})

    def __post_init__(self) -> None:
        if self.max_samples is not None and self.max_samples < 1:
            raise UserError(f"--max_samples {self.max_samples}: at least 1 row is needed")

    def read_held_out(self) -> Dataset:
        """The rows that the flags name, `--max_samples` of them."""
        rows = self.read(str(self.dataset_name), self.dataset_split, "test", on_bad_rows=self.on_bad_rows)
        return rows if self.max_samples is None else rows.select(range(min(self.max_samples, len(rows))))


def needed(value: str | None, flag: str, what: str) -> str:
    """The value of a flag that a command cannot do without."""
    if not value:
        raise UserError(f"{flag}: is missing; give {what}")
    return value
