"""generate_until: answers by the diffusion sampler, cut at the task's stop strings.

An autoregressive model stops when it has written a stop string; a diffusion model fills its canvas and the text is cut
afterwards at the first one. What the user gives for the sampler wins over a preset, and that over the task's YAML,
whose `max_gen_toks` becomes the canvas where nobody gives `gen_length`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from transformers import PreTrainedTokenizerBase

from unveil.errors import UserError, warn_user
from unveil.evaluation.likelihoods import content_id
from unveil.evaluation.settings import ModelSettings
from unveil.generation import GenerationConfig, generate
from unveil.models import Denoiser, unwrap

DEFAULT_CANVAS = 256  # lm-eval's default for max_gen_toks
_DEFAULT_BLOCK = 32
# Keys of a task's generation_kwargs that are said in other words here, or that only a causal model has a use for.
_OTHER_WORDS = ("until", "max_gen_toks", "max_tokens", "max_new_tokens", "max_length", "do_sample", "num_beams", "n")


@dataclass(frozen=True)
class Question:
    """A prompt, the sampler's options, the strings that end the answer; `number` tells repeats of a prompt apart."""

    prompt_ids: tuple[int, ...]
    config: GenerationConfig
    until: tuple[str, ...] = ()
    number: int = 0

    @property
    def index(self) -> int:
        """What seeds the answer beside `config.seed`: the prompt's content, not its place."""
        return content_id(self.prompt_ids, (self.number,))


def sampler_config(given: Mapping[str, Any], task: Mapping[str, Any], seed: int, where: str = "") -> GenerationConfig:
    """The sampler's options from what was given (flags over preset) and the task's `generation_kwargs`.

    Raises:
        UserError: options that do not fit together.
    """
    known = {f.name for f in fields(GenerationConfig) if f.init} - {"seed"}
    odd = [key for key in task if key not in known and key not in _OTHER_WORDS]
    if odd:
        warn_user(f"{where}: its generation_kwargs {', '.join(sorted(odd))} mean nothing to this sampler; left out")
    options = {key: value for key, value in task.items() if key in known and value is not None}
    if not task.get("do_sample", False):
        options["temperature"] = 0.0
    asked = task.get("max_gen_toks") or task.get("max_new_tokens") or task.get("max_tokens") or DEFAULT_CANVAS
    options.setdefault("gen_length", int(asked))
    options |= given
    canvas = options["gen_length"]
    if "block_length" not in options:
        options["block_length"] = _DEFAULT_BLOCK if canvas % _DEFAULT_BLOCK == 0 else None
    for name in ("temperature", "top_p", "cfg_scale"):
        if isinstance(options.get(name), int):
            options[name] = float(options[name])
    return GenerationConfig(**options, seed=seed)


def stop_strings(until: Any) -> tuple[str, ...]:
    """The task's `until`: a string, a list of them, or nothing."""
    if until is None:
        return ()
    return (until,) if isinstance(until, str) else tuple(text for text in until if text)


def cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of the stop strings."""
    places = [place for place in (text.find(stop) for stop in until if stop) if place >= 0]
    return text[: min(places)] if places else text


def end_ids(denoiser: Denoiser, tokenizer: PreTrainedTokenizerBase, settings: ModelSettings) -> list[int]:
    """Tokens that end an answer beside the tokenizer's own: those of the model's config and of `stop_tokens`."""
    configured = getattr(unwrap(denoiser.model).config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [] if configured is None else [configured]
    vocabulary = tokenizer.get_vocab()
    wanted = [token for token in (settings.stop_tokens or "").split(";") if token]
    for token in wanted:
        if token not in vocabulary:
            raise UserError(f"--model_args stop_tokens={token}: the tokenizer has no such token; check the spelling")
    return list(dict.fromkeys([*ids, *(vocabulary[token] for token in wanted)]))


def answer_questions(
    denoiser: Denoiser, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], settings: ModelSettings
) -> list[tuple[str, int]]:
    """Text and number of tokens of each answer, in order."""
    found: dict[int, tuple[str, int]] = {}
    by_config: dict[GenerationConfig, list[int]] = {}
    for place, question in enumerate(questions):
        by_config.setdefault(question.config, []).append(place)
    ends = end_ids(denoiser, tokenizer, settings)
    for config, places in by_config.items():
        groups = [[place] for place in places] if settings.batching == "isolated" else [places]
        for group in groups:
            drawn = generate(
                denoiser,
                [list(questions[place].prompt_ids) for place in group],
                config,
                tokenizer.eos_token_id,  # type: ignore[arg-type]
                ends,
                tokens_per_batch=settings.tokens_per_batch,
                indices=[questions[place].index for place in group],
            )
            for place, ids in zip(group, drawn, strict=True):
                found[place] = (_text_of(tokenizer, ids, questions[place].until), len(ids))
    return [found[place] for place in range(len(questions))]


def _text_of(tokenizer: PreTrainedTokenizerBase, ids: list[int], until: Sequence[str]) -> str:
    """The answer before its stop strings, which may be special tokens; special tokens themselves are no text."""
    text = cut(str(tokenizer.decode(ids, skip_special_tokens=False)), until)
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, "")
    return cut(text, until)
