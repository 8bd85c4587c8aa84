"""`unveil demo`: align the shipped model from human ratings, compare it with its base, write checkpoint and report."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unveil.errors import UserError
from unveil.secrets import shown_command
from unveil.terminal import say

DESCRIPTION = """Align the small masked diffusion language model that ships with unveil from real human ratings of film
reviews (ELBO-KTO), compare it with its base on held-out prompts, and write checkpoint, report and numbers to a folder.
Takes about three minutes on two CPU cores; needs no network and no GPU."""
_MOST_THREADS = 8  # a model this small gains nothing from more


@dataclass
class DemoArguments:
    """What to run, and where the result goes"""

    output_dir: str = field(default="unveil-demo", metadata={"help": "Folder for checkpoint, report and numbers."})
    overwrite: bool = field(default=False, metadata={"help": "Replace the folder of an earlier demo."})
    seed: int = field(default=0, metadata={"help": "Seed of the alignment and of the aligned model's answers."})
    num_prompts: int | None = field(default=None, metadata={"help": "Held-out prompts to compare on; unset: 800."})
    max_steps: int | None = field(default=None, metadata={"help": "Optimizer steps; unset: those of the recipe."})
    shuffled_thumbs: bool = field(
        default=False, metadata={"help": "The control: permute the thumbs, so that nothing can be learned from them."}
    )
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder of another base model made for this data; unset: the shipped one."}
    )

    def __post_init__(self) -> None:
        for name in ("num_prompts", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} {value}: at least 1 is needed")


def main(argv: Sequence[str]) -> int:
    """Parse, run, print."""
    started = time.perf_counter()
    from unveil.cli.inputs import refuse_to_lose_inputs
    from unveil.cli.parser import parse

    (args,) = parse((DemoArguments,), argv, "unveil demo", DESCRIPTION)
    from unveil.demo.recipe import Recipe
    from unveil.demo.run import check_output, run_demo

    recipe = Recipe(seed=args.seed)
    if args.num_prompts is not None:
        recipe = replace(recipe, num_prompts=args.num_prompts)
    if args.max_steps is not None:
        recipe = replace(recipe, steps=args.max_steps)
    refuse_to_lose_inputs([args.output_dir], "--output_dir", argv, args)
    check_output(args.output_dir, args.overwrite)
    _use_cores()
    print(
        f"aligning on {'shuffled ' if args.shuffled_thumbs else ''}human ratings of film reviews, then comparing with "
        f"the base on {recipe.num_prompts} held-out prompts",
        flush=True,
    )
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a kill cleans up as Ctrl-C does
    try:
        results = run_demo(
            recipe,
            args.output_dir,
            base=args.model_name_or_path,
            shuffled=args.shuffled_thumbs,
            overwrite=args.overwrite,
            started=started,
            command=shown_command(["unveil", "demo", *argv]),
        )
    except KeyboardInterrupt:
        print("unveil demo: interrupted; nothing was written", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    from unveil.demo.headline import headline

    _print_table(headline(results, args.shuffled_thumbs), results.seconds)
    _print_what_next(args.output_dir, recipe.as_dict())
    return 0


def _use_cores() -> None:
    """All cores (eight at most), unless OMP_NUM_THREADS says otherwise; no bars of libraries between ours."""
    import torch
    from transformers.utils import logging

    if "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(min(_MOST_THREADS, cores))
    logging.disable_progress_bar()


def _print_table(findings: Sequence, seconds: float) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=118)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("measure", no_wrap=True)
    table.add_column("result", style="bold", no_wrap=True)
    table.add_column("how to read it", style="dim")
    table.add_column("", no_wrap=True)
    marks = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: ""}
    for finding in findings:
        table.add_row(finding.measure, finding.value.replace("[", r"\["), finding.reading, marks[finding.holds])
    console.print()
    console.print(table)
    console.print(f"\n{seconds:.0f} seconds")


def _print_what_next(output_dir: str, settings: dict) -> None:
    from unveil.demo.card import generate_command, sampling_flags

    folder = Path(output_dir)
    aligned, base, answers = (shlex.quote(str(folder / name)) for name in ("aligned", "base", "answers.jsonl"))
    say(f"\nreport: {folder / 'report.html'}\n\ntry next:")
    say(f"  {generate_command(aligned, settings)}")
    say(
        f"  unveil compare --model {aligned} --against {base} --dataset_name {answers} --judge human_ratings "
        f"--max_samples 200 {sampling_flags(settings)}"
    )
    print("  unveil train --help   # thumbs of your own: a .jsonl file with prompt, completion, label")
