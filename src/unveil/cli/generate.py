"""`unveil generate`: answers to prompts, by unmasking."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unveil.cli.loading import load_for_use
from unveil.cli.options import HeldOutArguments, UseArguments
from unveil.cli.output import require_new_file, write_rows
from unveil.cli.parser import parse
from unveil.cli.prompting import GenerationArguments, answer, as_text, prompt_ids, read_prompts

DESCRIPTION = """Answer prompts with a masked diffusion language model (LLaDA's sampler). Plain prompts are continued as
they are; conversations go through the chat template."""


@dataclass
class PromptArguments(HeldOutArguments):
    """Which prompts, and where the answers go"""

    prompt: list[str] | None = field(
        default=None,
        metadata={"help": "Prompts (the flag may be repeated), instead of --dataset_name.", "action": "extend"},
    )
    output_file: str | None = field(default=None, metadata={"help": "Write JSON lines there instead of printing."})


def main(argv: Sequence[str]) -> None:
    """Parse, load, sample, print or write."""
    model_args, data, settings = parse(
        (UseArguments, PromptArguments, GenerationArguments),
        argv,
        "unveil generate",
        DESCRIPTION,
        required={"model_name_or_path": "a hub name or a folder"},
    )
    configs = settings.configs()
    require_new_file(data.output_file, data.overwrite)
    rows, source = read_prompts(data, data.prompt, settings.chat)
    denoiser, tokenizer = load_for_use(model_args, str(model_args.model_name_or_path))
    ids_by_place = prompt_ids(rows, source, data, denoiser, tokenizer)
    results: list[dict[str, Any]] = []
    for config in configs:
        answers = answer(denoiser, tokenizer, ids_by_place, settings, config)
        for place, (text, tokens) in zip(ids_by_place, answers):
            row: dict[str, Any] = rows[place]
            ended = tokens < config.gen_length
            results.append({**row, "answer": text, "tokens": tokens, "ended": ended, "seed": config.seed})
    results.sort(key=lambda row: row["example_id"])  # stable: the samples of a prompt stay in their order
    if data.output_file:
        write_rows(data.output_file, results)
    else:
        for row in results:
            print(f"[{row['example_id']}] {as_text(row['prompt'])}\n--> {row['answer']}\n")
    mean, ended = (sum(row[key] for row in results) / len(results) for key in ("tokens", "ended"))
    where = f" in {data.output_file}" if data.output_file else ""
    print(f"{len(results)} answers{where}, {mean:.1f} tokens on average, {ended:.0%} ended before --gen_length")
