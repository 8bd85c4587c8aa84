"""`unveil evaluate`: lm-eval's benchmarks, with standard errors over documents and over draws."""

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unveil import __version__
from unveil.cli.inputs import refuse_to_lose_inputs
from unveil.cli.parser import CommandLine
from unveil.errors import UserError
from unveil.evaluation.presets import PRESETS, TaskPreset, preset_named, settings_by_task
from unveil.evaluation.request_cache import RequestCache
from unveil.evaluation.settings import ModelSettings, parse_model_args, settings_of
from unveil.evaluation.tasks import leaf_tasks, load_tasks, require_lm_eval, settle_shots
from unveil.files import write_json
from unveil.locks import claim_folder
from unveil.terminal import say

DESCRIPTION = """Run lm-eval's tasks, or your own task files, on a masked diffusion language model: likelihoods by
Monte-Carlo ELBO, answers by unmasking. Interrupted runs go on where they were (give the same --output_dir)."""
RESULTS, REQUESTS = "results.json", "requests.jsonl"


@dataclass
class EvaluateArguments:
    """Which model, which tasks, where the results go"""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Hub name or folder of the model, or folder of LoRA adapters."}
    )
    model_args: str | None = field(
        default=None,
        metadata={
            "help": "pretrained=...,peft=...,num_draws=...,gen_length=...: model, draws, sampler; wins over preset and "
            "task."
        },
    )
    tasks: list[str] | None = field(
        default=None, metadata={"help": "Tasks, groups, patterns or YAML files, with commas or spaces between them."}
    )
    include_path: list[str] | None = field(default=None, metadata={"help": "Folders of your own task files."})
    output_dir: str | None = field(
        default=None, metadata={"help": f"Folder for {RESULTS} and {REQUESTS}, from which a run goes on."}
    )
    preset: str | None = field(default=None, metadata={"help": f"Settings of a paper's table: {', '.join(PRESETS)}."})
    num_fewshot: int | None = field(default=None, metadata={"help": "Examples in the prompt; unset: as the task says."})
    limit: float | None = field(
        default=None, metadata={"help": "The first so many documents of each task; below 1: that share."}
    )
    num_draws: int | None = field(default=None, metadata={"help": "Draws per likelihood (32); as in --model_args."})
    apply_chat_template: bool = field(default=False, metadata={"help": "Put prompts through the chat template."})
    fewshot_as_multiturn: bool = field(
        default=True, metadata={"help": "With the chat template: examples as turns of a conversation."}
    )
    system_instruction: str | None = field(default=None, metadata={"help": "Text that goes before every prompt."})
    seed: int = field(default=0, metadata={"help": "Seed of draws, answers and of the choice of examples."})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda, cuda:1, ...; unset: a GPU if there is one."})
    bootstrap_iters: int = field(
        default=1000, metadata={"help": "Resamples for standard errors that have no formula; 0: none."}
    )
    log_samples: bool = field(default=False, metadata={"help": "Also write samples_TASK.jsonl: every document."})
    confirm_run_unsafe_code: bool = field(
        default=False, metadata={"help": "Allow tasks that run programs written by the model."}
    )
    overwrite: bool = field(
        default=False, metadata={"help": f"Replace {RESULTS}; what {REQUESTS} holds is still used where it fits."}
    )

    def __post_init__(self) -> None:
        if self.limit is not None and (self.limit <= 0 or (self.limit > 1 and self.limit != int(self.limit))):
            raise UserError(f"--limit {self.limit}: give a number of documents, or a share below 1")
        for name in ("num_fewshot", "bootstrap_iters"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UserError(f"--{name} {value}: 0 or more is needed")

    @property
    def task_names(self) -> list[str]:
        """`--tasks a,b c` as three names."""
        return [name for item in self.tasks or [] for name in item.split(",") if name]


COMMAND_LINE = CommandLine((EvaluateArguments,), "unveil evaluate", DESCRIPTION, {"tasks": "gsm8k,mmlu or a YAML file"})


def main(argv: Sequence[str]) -> None:
    """Parse, read the tasks, load the model, ask it, print, write."""
    (args,) = COMMAND_LINE.read(argv)
    preset = preset_named(args.preset) if args.preset else None
    settings = _settings(args, preset.model if preset else {})
    folder = _output_folder(args)
    if folder:
        refuse_to_lose_inputs([folder / RESULTS, folder / REQUESTS], "--output_dir", argv, args, own_names=True)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    require_lm_eval()
    loaded = load_tasks(args.task_names, args.include_path or ())
    tasks = leaf_tasks(loaded)
    by_task = settings_by_task(preset, list(tasks)) if preset else {}
    shots = {name: found.num_fewshot for name, found in by_task.items() if found.num_fewshot is not None}
    settle_shots(tasks, args.num_fewshot, shots, args.seed)
    _evaluate(args, settings, folder, loaded, by_task)


def _settings(args: EvaluateArguments, preset: Any) -> ModelSettings:
    """`--model_args` over flags over preset; one model and no two."""
    given: dict[str, Any] = parse_model_args(args.model_args or "")
    for flag, key in (("model_name_or_path", "pretrained"), ("num_draws", "num_draws"), ("device", "device")):
        value = getattr(args, flag)
        if value is not None and given.get(key, str(value)) != str(value):
            raise UserError(f"--{flag} {value}: --model_args says {key}={given[key]}; leave one of them out")
        if value is not None:
            given[key] = value
    given.setdefault("seed", args.seed)
    return settings_of({**preset, **given})


def _output_folder(args: EvaluateArguments) -> Path | None:
    if args.output_dir is None:
        return None
    folder = Path(args.output_dir)
    claim_folder(folder)
    if (folder / RESULTS).exists() and not args.overwrite:
        raise UserError(
            f"--output_dir {folder}: holds {RESULTS} already; give --overwrite (answers and likelihoods that are known "
            "are used again) or another folder"
        )
    return folder


def _evaluate(
    args: EvaluateArguments,
    settings: ModelSettings,
    folder: Path | None,
    loaded: dict[str, Any],
    by_task: dict[str, TaskPreset],
) -> None:
    # Not before the tasks are known to be right: these take their time.
    from unveil.cli.evaluate_page import print_results
    from unveil.evaluation.harness import greedy_tasks, group_records, run, task_records
    from unveil.evaluation.loading import load_model
    from unveil.evaluation.model import UnveilLM

    denoiser, tokenizer = load_model(settings)
    if args.apply_chat_template and not tokenizer.chat_template:
        raise UserError(
            f"--apply_chat_template: the tokenizer of {settings.pretrained} has no chat template; leave the flag out, "
            "or give one as --model_args chat_template=FILE"
        )
    prints = fingerprints(denoiser, tokenizer)
    cache = RequestCache(folder / REQUESTS if folder else None, " ".join(f"{k}={v}" for k, v in prints.items()))
    model = UnveilLM.around(
        denoiser,
        tokenizer,
        settings,
        cache,
        {name: found.sampler for name, found in by_task.items()},
        greedy_tasks(loaded),
    )
    results = run(
        model,
        loaded,
        limit=args.limit,
        apply_chat_template=args.apply_chat_template,
        fewshot_as_multiturn=args.fewshot_as_multiturn,
        system_instruction=args.system_instruction,
        bootstrap_iters=args.bootstrap_iters,
        confirm_run_unsafe_code=args.confirm_run_unsafe_code,
    )
    record = {
        "model": settings.pretrained,
        "tasks": task_records(model, loaded, results),
        "groups": group_records(loaded, results),
        "requests": {"answered_before": cache.hits, "computed": cache.computed},
        "settings": {
            **_described(args),
            "model": asdict(replace(settings, generation={})) | {"generation": dict(settings.generation)},
            "preset": _preset_record(args.preset, by_task),
        },
        "fingerprints": prints,
        "versions": versions(),
    }
    print_results(record)
    if folder is not None:
        _write(folder, record, results, args.log_samples)
        say(f"saved in {folder}")


def _described(args: EvaluateArguments) -> dict[str, Any]:
    names = (
        "num_fewshot", "limit", "apply_chat_template", "fewshot_as_multiturn", "system_instruction", "seed",
        "bootstrap_iters",
    )  # fmt: skip
    return {"tasks": args.task_names, **{name: getattr(args, name) for name in names}}


def _preset_record(name: str | None, by_task: dict[str, TaskPreset]) -> dict[str, Any] | None:
    if name is None:
        return None
    return {
        "name": name,
        "source": PRESETS[name].source,
        "tasks": {task: {**found.sampler, "num_fewshot": found.num_fewshot} for task, found in by_task.items()},
    }


def fingerprints(denoiser: Any, tokenizer: Any) -> dict[str, str]:
    """What names the model: weights, network, tokenizer, and how it computes."""
    from unveil.likelihood.digests import digest, digest_of_tokenizer, digest_of_weights, settings_of_model
    from unveil.likelihood.version import ESTIMATOR_VERSION
    from unveil.models import unwrap

    return {
        "weights": digest_of_weights(denoiser.model, adapters=True),
        "network": digest([settings_of_model(denoiser.model), denoiser.mask_token_id, denoiser.logit_shift]),
        "tokenizer": digest_of_tokenizer(tokenizer),
        "dtype": str(denoiser.model.dtype).removeprefix("torch."),
        "device": denoiser.device.type,
        "attention": str(unwrap(denoiser.model).config._attn_implementation),
        "estimator": str(ESTIMATOR_VERSION),
    }


def versions() -> dict[str, str]:
    """What the run ran on."""
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.machine()
    names = ("torch", "transformers", "datasets", "numpy", "lm_eval")
    found = {name: version(name) for name in names}
    return {"python": platform.python_version(), "unveil": __version__, **found, "device": device}


def _write(folder: Path, record: dict[str, Any], results: dict[str, Any], log_samples: bool) -> None:
    import json

    from unveil.files import write_text

    if log_samples:
        for name, samples in (results.get("samples") or {}).items():
            lines = "".join(json.dumps(sample, ensure_ascii=False, default=str) + "\n" for sample in samples)
            write_text(folder / f"samples_{name.replace('/', '_')}.jsonl", lines)
    write_json(folder / RESULTS, record)
