"""What `--model_args` may say: which model, how likelihoods are estimated, how answers are drawn.

`pretrained=folder,peft=adapters,num_draws=64,gen_length=256,...`: lm-eval's form, `key=value` joined by commas. Options
of the sampler are those of `GenerationConfig`, whatever it has; what is given here wins over the task's own settings.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, get_args, get_type_hints

from unveil.draws import check_design
from unveil.errors import UserError
from unveil.generation import GenerationConfig

BATCHING = ("auto", "isolated", "packed")
# lm-eval passes these to every model; what they would say here is said by tokens_per_batch.
_IGNORED = ("batch_size", "max_batch_size")


@dataclass(frozen=True)
class ModelSettings:
    """Everything but the sampler's options, which are in `generation` as they were given.

    pretrained: folder or hub name (a folder of adapters names its base itself). peft: adapters for `pretrained`.
    num_draws, draw_design, seed: the Monte-Carlo ELBO. exact_short: answers with no more non-empty subsets than
    `num_draws` (five tokens for 32 draws) are scored by all of them, which is exact and cheaper.
    check_greedy: answer lm-eval's `is_greedy` (see `likelihoods.greedy_matches`); else it is False throughout.
    max_length: prompt + answer in tokens; None = what the model was made for. add_bos_token: begins every prompt.
    batching: "isolated" scores each request in batches of its own, so that its last bit depends on nothing else;
    "packed" fills batches of `tokens_per_batch` with several; "auto" isolates likelihoods and packs answers.
    stop_tokens: tokens that end an answer besides the model's own, joined by ";".
    """

    pretrained: str
    peft: str | None = None
    tokenizer: str | None = None
    revision: str | None = None
    dtype: str | None = None
    device: str | None = None
    attn_implementation: str | None = None
    mask_token_id: int | None = None
    chat_template: str | None = None
    num_draws: int = 32
    draw_design: str = "quadratic_tiling"
    exact_short: bool = True
    check_greedy: bool = True
    max_length: int | None = None
    add_bos_token: bool = False
    tokens_per_batch: int = 4096
    batching: str = "auto"
    stop_tokens: str | None = None
    seed: int = 0
    generation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_design(self.draw_design, self.num_draws, 1)
        for name in ("tokens_per_batch", "max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--model_args {name}={value}: at least 1 is needed")
        if self.batching not in BATCHING:
            raise UserError(f"--model_args batching={self.batching}: unknown; give {', '.join(BATCHING)}")

    @property
    def likelihood_key(self) -> dict[str, Any]:
        """What the value of a likelihood depends on, beside the model and the tokens."""
        names = ("num_draws", "draw_design", "exact_short", "seed")
        return {name: getattr(self, name) for name in names}


def parse_model_args(text: str) -> dict[str, str]:
    """`a=1,b=2` as a dictionary of texts."""
    found: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"--model_args {part!r}: must look like key=value, as in pretrained=folder,num_draws=64")
        if key.strip() in found:
            raise UserError(f"--model_args {key.strip()}: is given twice; leave one out")
        found[key.strip()] = value.strip()
    return found


def settings_of(options: Mapping[str, Any]) -> ModelSettings:
    """Settings from texts or values.

    Raises:
        UserError: an unknown key (the nearest known one is named), a value of another type, no `pretrained`.
    """
    own = {name: hint for name, hint in get_type_hints(ModelSettings).items() if name != "generation"}
    sampler = {name: hint for name, hint in get_type_hints(GenerationConfig).items() if name in _sampler_names()}
    given: dict[str, Any] = {}
    generation: dict[str, Any] = {}
    for key, value in options.items():
        if key in _IGNORED:
            continue
        if key in own:
            given[key] = _coerced(key, value, own[key])
        elif key in sampler:
            generation[key] = _coerced(key, value, sampler[key])
        else:
            near = difflib.get_close_matches(key, [*own, *sampler], n=1)
            hint = f" (close to {near[0]})" if near else ""
            raise UserError(f"--model_args {key}: unknown key{hint}; the keys are {', '.join([*own, *sampler])}")
    if not given.get("pretrained"):
        raise UserError("--model_args pretrained: is missing; give a hub name or a folder, or --model_name_or_path")
    return ModelSettings(**given, generation=generation)


def _sampler_names() -> list[str]:
    return [f.name for f in fields(GenerationConfig) if f.init and f.name != "seed"]


def _coerced(key: str, value: Any, hint: Any) -> Any:
    """A text as the type that the field has."""
    kinds = get_args(hint) if NoneType in get_args(hint) else (hint,)
    if value is None or value in ("None", "none", "null"):
        if NoneType in kinds:
            return None
        raise UserError(f"--model_args {key}={value}: a value is needed")
    kind = next(k for k in kinds if k is not NoneType)
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        return kind(value) if kind in (int, float) else str(value)
    except (ValueError, KeyError):
        what = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise UserError(f"--model_args {key}={value}: is not {what}; correct it") from None
