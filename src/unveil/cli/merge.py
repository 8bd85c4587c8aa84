"""`unveil merge`: one model from LoRA adapters and their base, and what rounding took of the adapters."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from rich.table import Table
from transformers import PreTrainedModel

from unveil.checksums import write_checksums
from unveil.cli.inputs import refuse_to_lose_inputs
from unveil.cli.output import command
from unveil.cli.parser import parse
from unveil.errors import UserError
from unveil.files import replace_folder, require_empty, write_json
from unveil.locks import claim_folder
from unveil.models import check_tokenizer, load_tokenizer
from unveil.models.adapters import base_of
from unveil.models.loading import dtype_named, load_adapters
from unveil.models.merging import ENOUGH, Kept, merge_adapters
from unveil.models.weight_files import is_adapter
from unveil.terminal import PlainConsole, say
from unveil.training import versions

DESCRIPTION = """Write one model from LoRA adapters and the base that they name: for engines that take no adapters, and
to answer faster. The sum is formed in float32 and rounded once; the table says what the rounding left."""


@dataclass
class MergeArguments:
    """Which adapters, and where the model goes"""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder of LoRA adapters.", "aliases": ["--model"]}
    )
    output_dir: str | None = field(default=None, metadata={"help": "Folder for the model and its tokenizer."})
    dtype: str | None = field(
        default=None,
        metadata={
            "help": "float32, bfloat16 or float16 of the merged weights; unset: what the adapters were trained in."
        },
    )
    overwrite: bool = field(default=False, metadata={"help": "Allow an output folder that is not empty."})


def main(argv: Sequence[str]) -> None:
    """Parse, load, merge, save, tell."""
    (args,) = parse(
        (MergeArguments,),
        argv,
        "unveil merge",
        DESCRIPTION,
        required={"model_name_or_path": "a folder of adapters", "output_dir": "a folder for the model"},
    )
    name, output = str(args.model_name_or_path), Path(str(args.output_dir))
    dtype = dtype_named(args.dtype) if args.dtype else None
    if not Path(name).is_dir() or not is_adapter(name):
        raise UserError(f"--model_name_or_path {name}: is no folder of adapters; there is nothing to merge")
    require_empty(output, args.overwrite)
    refuse_to_lose_inputs([output], "--output_dir", argv, args)
    claim_folder(output, beside=True)
    base = base_of(name).name
    tokenizer = load_tokenizer(name)
    model = load_adapters(name)
    check_tokenizer(tokenizer, cast(PreTrainedModel, model))
    merged, kept = merge_adapters(model, None if dtype == "auto" else dtype)
    with replace_folder(output) as folder:
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / "merge.json", {"adapters": name, "base": base, **kept._asdict(), "versions": versions()})
        write_checksums(folder)
    print_page(output, str(merged.dtype).removeprefix("torch."), kept)
    say(
        f"saved in {output}; next:",
        command("unveil", "generate", "--model_name_or_path", str(output), "--prompt", "..."),
    )


def print_page(output: Path, dtype: str, kept: Kept) -> None:
    """What was merged and what rounding took."""
    table = Table("merged model", str(output))
    table.add_row("weights", dtype)
    table.add_row("numbers in adapted weights", f"{kept.numbers:,}")
    table.add_row("of them changed", f"{kept.changed:.1%}")
    table.add_row("left of the update", f"{kept.share:.1%} along its own direction")
    PlainConsole(width=100).print(table)
    if kept.untied:
        print("embedding and head shared one matrix; now each has its own, as in training")
    if kept.share < ENOUGH:
        print(
            f"rounding to {dtype} took {1 - kept.share:.0%} of the update: keep the adapters, which every command "
            "loads, or merge with --dtype float32"
        )
