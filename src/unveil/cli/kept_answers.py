"""Answers that `unveil compare` has sampled, kept in its output folder as they come: an interrupted run goes on.

`answers.jsonl` has one line per answer; `answers_settings.json` says what answers depend on: the models' weights, their
tokenizers, the settings of sampling and the first seed, the device, the attention and the version of the estimator. An
answer is used again if all of that is the same and its prompt has the same tokens; nothing else may change under
`--resume` (more prompts, samples or judges are welcome).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from unveil.checksums import opened, sealed
from unveil.cli.prompting import Answer, GenerationArguments
from unveil.errors import UserError, name_rows
from unveil.files import LOCK, append_text, read_json, read_whole_lines, write_json, write_text
from unveil.generation import GenerationConfig
from unveil.judging.whole_text import whole_text
from unveil.likelihood.digests import digest, digest_of_tokenizer, digest_of_weights, settings_of_model
from unveil.likelihood.version import ESTIMATOR_VERSION
from unveil.models import Denoiser, unwrap

ANSWERS, SETTINGS = "answers.jsonl", "answers_settings.json"
MODEL_FLAGS = (
    "model_name_or_path", "against", "model_revision", "dtype", "tokenizer_name_or_path", "chat_template_path",
    "mask_token_id",
)  # fmt: skip
DATA_FLAGS = ("dataset_name", "dataset_config", "dataset_split", "column_map")


class Asked(NamedTuple):
    """Which answer: of model `side`, to row `example_id`, with `seed`."""

    side: str
    seed: int
    example_id: int


class KeptAnswers:
    """The answers in a folder (or, without one, in memory only)."""

    def __init__(self, folder: Path | None, fingerprint: Mapping[str, Any], resume: bool) -> None:
        self._answers: dict[Asked, tuple[str, Answer]] = {}
        self._path = folder / ANSWERS if folder else None
        self.reused = 0
        self._source = ""  # what is said about the data where a prompt has changed
        if folder is None:
            return
        if resume and (folder / ANSWERS).exists():
            there = _require_same(folder / SETTINGS, fingerprint)
            self._source = _flags_that_changed(there["named"], fingerprint["named"], DATA_FLAGS)
            self._answers = _read(folder / ANSWERS)
        else:
            write_json(folder / SETTINGS, fingerprint)
        write_text(folder / ANSWERS, "".join(_line(asked, *kept) for asked, kept in self._answers.items()))

    def complete(
        self,
        side: str,
        seed: int,
        prompts: Mapping[int, list[int]],
        example_ids: Mapping[int, int],
        sample: Callable[[dict[int, list[int]]], list[Answer]],
        at_once: int,
    ) -> list[Answer]:
        """Answers to all prompts (place -> token ids), in order; `sample` draws what is missing, `at_once` at a time.

        Raises:
            UserError: a kept answer is one to another prompt.
        """
        digests = {place: digest(ids) for place, ids in prompts.items()}
        asked = {place: Asked(side, seed, example_ids[place]) for place in prompts}
        known = [place for place in prompts if asked[place] in self._answers]
        other = [example_ids[place] for place in known if self._answers[asked[place]][0] != digests[place]]
        if other:
            raise UserError(
                f"{self._path}: row {name_rows(sorted(other))} had another prompt when it was answered{self._source}; "
                "give the same data and template, another --output_dir, or --overwrite instead of --resume"
            )
        self.reused += len(known)
        missing = [place for place in prompts if asked[place] not in self._answers]
        for start in range(0, len(missing), at_once):
            part = missing[start : start + at_once]
            answers = sample({place: prompts[place] for place in part})
            for place, answer in zip(part, answers, strict=True):
                self._answers[asked[place]] = digests[place], answer
            self._append([(asked[place], *self._answers[asked[place]]) for place in part])
        return [self._answers[asked[place]][1] for place in prompts]

    def _append(self, kept: Sequence[tuple[Asked, str, Answer]]) -> None:
        if self._path is not None:
            append_text(self._path, "".join(_line(*one) for one in kept))


def without_results(folder: Path) -> bool:
    """Whether the folder holds nothing but what a comparison leaves that failed before its first answer."""
    left = {path.name for path in folder.iterdir()} - {LOCK} if folder.is_dir() else set()
    answers = folder / ANSWERS
    return bool(left) and left <= {ANSWERS, SETTINGS} and not (answers.is_file() and answers.stat().st_size)


def fingerprint_of_answers(
    loaded: Mapping[str, tuple[Denoiser, PreTrainedTokenizerBase]],
    settings: GenerationArguments,
    config: GenerationConfig,
    max_prompt_length: int | None,
    named: Mapping[str, Any],
) -> dict[str, Any]:
    """What answers depend on, beside their prompt, part by part.

    config: of the first sample. named: MODEL_FLAGS and DATA_FLAGS as given; they may change while what they lead to is
    the same, and are kept to tell what was given.
    """
    parts: dict[str, Any] = {}
    for side, (denoiser, tokenizer) in loaded.items():
        model: Any = denoiser.model
        parts[f"weights of model {side}"] = digest_of_weights(model, adapters=True)
        parts[f"configuration of model {side}"] = digest(settings_of_model(model))
        parts[f"tokenizer of model {side}"] = digest_of_tokenizer(tokenizer)
    computing: dict[str, Any] = {"version of the estimator": ESTIMATOR_VERSION}
    for side, (denoiser, _) in loaded.items():
        computing[f"device of model {side}"] = denoiser.device.type
        computing[f"attention of model {side}"] = unwrap(denoiser.model).config._attn_implementation
    chosen = {"stop_tokens": settings.stop_tokens, "chat": settings.chat, "max_prompt_length": max_prompt_length}
    parts |= {"computing": computing, "sampling": asdict(config) | chosen, "named": dict(named)}
    return json.loads(json.dumps(parts))


def _require_same(path: Path, here: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings in the file, which must be those of `here`."""
    try:
        there: dict[str, Any] = read_json(path)
        sampling: dict[str, Any] = there["sampling"]
        there.setdefault("named", {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read; leave --resume out and give --overwrite to start anew") from error
    other = []
    models = [name for name in here if name not in ("computing", "sampling", "named") and there.get(name) != here[name]]
    if models:
        flags = _flags_that_changed(there["named"], here["named"], MODEL_FLAGS)
        other.append(f"{', '.join(models)}{flags or ' (what --model_name_or_path or --against name has changed)'}")
    was, now = there.get("computing", {}), here["computing"]
    other += [
        f"{name} (was {was.get(name, 'not recorded')}, is {now[name]})" for name in now if was.get(name) != now[name]
    ]
    names = dict.fromkeys([*sampling, *here["sampling"]])
    other += [
        f"--{name} (was {sampling.get(name)}, is {here['sampling'].get(name)})"
        for name in names
        if sampling.get(name) != here["sampling"].get(name)
    ]
    if other:
        raise UserError(
            f"--resume: the answers in {path.parent} were made with other settings: {', '.join(other)}; give the same "
            "ones, another --output_dir, or --overwrite instead of --resume"
        )
    return there


def _flags_that_changed(there: Mapping[str, Any], here: Mapping[str, Any], flags: Sequence[str]) -> str:
    """` (--flag was this, is that)` for those that did, or nothing."""
    changed = [
        f"--{flag} was {there.get(flag)}, is {here.get(flag)}" for flag in flags if there.get(flag) != here.get(flag)
    ]
    return f" ({'; '.join(changed)})" if changed else ""


def _line(asked: Asked, prompt: str, answer: Answer) -> str:
    row = {**asked._asdict(), "prompt_digest": prompt, "text": answer.text, "tokens": answer.tokens}
    return json.dumps(sealed(row), ensure_ascii=False) + "\n"


def _read(path: Path) -> dict[Asked, tuple[str, Answer]]:
    """The whole lines of the file; a last one that was cut by a kill is left out."""
    found = {}
    for number, line in enumerate(read_whole_lines(path)[0], start=1):
        try:
            row = opened(json.loads(line))
            asked = Asked(str(row["side"]), int(row["seed"]), int(row["example_id"]))
            found[asked] = str(row["prompt_digest"]), Answer(whole_text(str(row["text"])), int(row["tokens"]))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number}: is no answer, or not the one that was written; remove the line, or leave "
                "--resume out and give --overwrite"
            ) from error
    return found
