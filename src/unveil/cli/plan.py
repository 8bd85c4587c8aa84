"""`unveil plan`: what a run of `unveil train` will cost, from the model's configuration and the data's lengths."""

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from unveil.cli.options import ModelArguments
from unveil.cli.parser import parse
from unveil.cli.plan_estimate import PlanConfig, estimate
from unveil.cli.plan_page import print_page
from unveil.cli.train import TrainScriptArguments
from unveil.errors import UserError
from unveil.planning import devices

DESCRIPTION = """Tell what a run of `unveil train` will cost, before it starts: tokens, floating-point operations,
memory, and hours on the devices that --gpus names. Takes every flag of `unveil train`, and its --config file. Reads
the model's configuration and tokenizer, never its weights, and tokenises the data as training would."""


@dataclass
class PlanArguments:
    """On which devices"""

    gpus: str = field(default="1xH100-80GB", metadata={"help": "Devices, such as 8xA100-80GB, H200 or 4xL40S; or cpu."})
    utilisation: float = field(
        default=0.4, metadata={"help": "Share of the devices' peak that is reached; hours are told around it."}
    )
    gpu_memory_gb: float | None = field(
        default=None, metadata={"help": "Memory of one device, instead of the table's."}
    )
    gpu_tflops: float | None = field(
        default=None, metadata={"help": "Dense bfloat16 peak of one device in TFLOP/s, instead of the table's."}
    )
    cpu_gflops: float | None = field(
        default=None, metadata={"help": "With --gpus cpu: GFLOP/s of a large float32 matrix product."}
    )
    load_in_4bit: bool = field(
        default=False,
        metadata={"help": "Plan for QLoRA (needs --use_peft): frozen matrices in 4 bits, which train cannot do yet."},
    )
    json: bool = field(default=False, metadata={"help": "Print one JSON object instead of tables."})

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise UserError(f"--utilisation {self.utilisation:g}: must be above 0 and at most 1")


def main(argv: Sequence[str]) -> None:
    """Parse, read, count, print."""
    model_args, script, args, wanted = parse(
        (ModelArguments, TrainScriptArguments, PlanConfig, PlanArguments),
        argv,
        "unveil plan",
        DESCRIPTION,
        required={"model_name_or_path": "a hub name or a folder", "dataset_name": "a hub name or a file"},
    )
    on = devices(wanted.gpus, wanted.gpu_memory_gb, wanted.gpu_tflops, wanted.cpu_gflops)
    if wanted.load_in_4bit and not model_args.use_peft:
        raise UserError("--load_in_4bit: matrices of 4 bits cannot be trained; give --use_peft too")
    if wanted.load_in_4bit and on.name == "cpu":
        raise UserError("--load_in_4bit: matrices of 4 bits need a GPU; name one with --gpus, or leave the flag out")
    with contextlib.redirect_stdout(sys.stderr) if wanted.json else contextlib.nullcontext():
        found = estimate(model_args, script, args, on, wanted.utilisation, wanted.load_in_4bit)
    if wanted.json:
        print(json.dumps(found, allow_nan=False))
    else:
        print_page(found)
