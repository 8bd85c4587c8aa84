"""`unveil generate`: answers to prompts, by unmasking."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from unveil.cli.inputs import refuse_to_lose_inputs
from unveil.cli.loading import load_for_use
from unveil.cli.options import HeldOutArguments, UseArguments
from unveil.cli.output import require_new_file, write_rows
from unveil.cli.parser import parse
from unveil.cli.prompting import (
    GenerationArguments,
    all_end_tokens,
    as_text,
    prompt_ids,
    read_prompts,
    sampled,
    texts,
)
from unveil.cli.unmasking import live_canvases
from unveil.generation import GenerationConfig, Observer, Recorder, Samples, Statistics, Step
from unveil.generation.trajectory import as_row
from unveil.models import Denoiser
from unveil.terminal import say

DESCRIPTION = """Answer prompts with a masked diffusion language model (LLaDA's sampler, Fast-dLLM's shortcuts). Plain
prompts are continued as they are; conversations go through the chat template."""


@dataclass
class PromptArguments(HeldOutArguments):
    """Which prompts, and where the answers go"""

    prompt: list[str] | None = field(
        default=None,
        metadata={"help": "Prompts (the flag may be repeated), instead of --dataset_name.", "action": "extend"},
    )
    output_file: str | None = field(default=None, metadata={"help": "Write JSON lines there instead of printing."})
    trajectories: str | None = field(
        default=None, metadata={"help": "Write every step of every answer there, as JSON lines."}
    )
    show: bool = field(
        default=False,
        metadata={"help": "Show the unmasking while it happens; draws nothing where the output is no terminal."},
    )


def main(argv: Sequence[str]) -> None:
    """Parse, load, sample, print or write."""
    model_args, data, settings = parse(
        (UseArguments, PromptArguments, GenerationArguments),
        argv,
        "unveil generate",
        DESCRIPTION,
        required={"model_name_or_path": "a hub name or a folder"},
    )
    settings.check()
    require_new_file(data.output_file, data.overwrite)
    require_new_file(data.trajectories, data.overwrite, "--trajectories")
    refuse_to_lose_inputs([data.output_file], "--output_file", argv, model_args, data)
    refuse_to_lose_inputs([data.trajectories], "--trajectories", argv, model_args, data)
    rows, source = read_prompts(data, data.prompt, settings.chat)
    denoiser, tokenizer = load_for_use(model_args, str(model_args.model_name_or_path))
    settings = settings.ending(str(model_args.model_name_or_path), tokenizer)
    configs = settings.configs(denoiser.max_length)
    ids_by_row = prompt_ids(rows, source, data, denoiser, tokenizer, configs[0].gen_length)
    prompts: dict[int, Any] = {row["row"]: row for row in rows}  # type: ignore[index, call-overload]
    titles = [as_text(prompts[number]["prompt"]) for number in ids_by_row] if data.show else None
    results: list[dict[str, Any]] = []
    paths: list[dict[str, Any]] = []
    cost = Statistics()
    for config in configs:
        recorder = None
        if data.trajectories:
            recorder = Recorder(list(ids_by_row.values()), config, denoiser.mask_token_id, list(ids_by_row))
        samples = _watched(denoiser, tokenizer, ids_by_row, settings, config, recorder, titles)
        cost += samples.statistics
        for number, (text, tokens) in zip(ids_by_row, texts(tokenizer, samples)):
            asked = {"example_id": prompts[number]["example_id"], "prompt": prompts[number]["prompt"]}
            ended = tokens < config.gen_length
            results.append({**asked, "answer": text, "tokens": tokens, "ended": ended, "seed": config.seed})
        for number, path in zip(ids_by_row, recorder.trajectories if recorder else []):
            paths.append({"example_id": prompts[number]["example_id"], **as_row(path)})
    results.sort(key=lambda row: row["example_id"])  # stable: the samples of a prompt stay in their order
    if data.trajectories:
        write_rows(data.trajectories, sorted(paths, key=lambda row: row["example_id"]))
    if data.output_file:
        write_rows(data.output_file, results)
    else:
        for row in results:
            say(f"[{row['example_id']}] {as_text(row['prompt'])}\n--> {row['answer']}\n")
    mean, ended = (sum(row[key] for row in results) / len(results) for key in ("tokens", "ended"))
    where = f" in {data.output_file}" if data.output_file else ""
    say(f"{len(results)} answers{where}, {mean:.1f} tokens on average, {ended:.0%} ended before --gen_length")
    say(cost.describe() + (f"; steps in {data.trajectories}" if data.trajectories else ""))


def _watched(
    denoiser: Denoiser,
    tokenizer: PreTrainedTokenizerBase,
    ids_by_row: dict[int, list[int]],
    settings: GenerationArguments,
    config: GenerationConfig,
    recorder: Recorder | None,
    titles: list[str] | None,
) -> Samples:
    """Sample while a recorder and the terminal look on, where they are wanted."""
    ends = all_end_tokens(denoiser, tokenizer, settings.stop_tokens)
    screen = nullcontext(None) if titles is None else live_canvases(tokenizer, titles, ends)
    with screen as view:
        watching: list[Observer] = [observer for observer in (recorder, view) if observer is not None]

        def tell(step: Step) -> None:
            for observer in watching:
                observer(step)

        return sampled(denoiser, tokenizer, ids_by_row, settings, config, tell if watching else None)
