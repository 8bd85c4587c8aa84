"""What reference values depend on, part by part, each with its digest: runs may share values if all parts agree.

`parts` is what `cache.json` shows. Answers are compared one by one (`answers`, `held_out`), so that a run on some of
the rows may use what was computed for all of them. Which epochs there are is no part of it: the epoch belongs to the
name of a value (`Key`), and so fixed draws are those of epoch 0.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from unveil.draws import nests
from unveil.errors import UserError, name_rows
from unveil.likelihood.canonical import CANONICAL_TOKENS
from unveil.likelihood.digests import (
    digest,
    digest_of_answer,
    digest_of_tokenizer,
    digest_of_weights,
    settings_of_model,
    weights_of,
)
from unveil.likelihood.version import ESTIMATOR_VERSION
from unveil.models import Denoiser, unwrap
from unveil.training.cache_keys import ALONE, Datasets, answers_of
from unveil.training.draw_config import DrawConfig

DRAWS, HELD_OUT_DRAWS = "draws", "held-out draws"
DATA, HELD_OUT_DATA = "data", "held-out data"
_HELD_OUT = (HELD_OUT_DRAWS, HELD_OUT_DATA)


@dataclass(frozen=True)
class Part:
    """One thing that values depend on: its digest, and what a person wants to know of it."""

    digest: str
    content: Mapping[str, Any]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Part":
        """A part that is small enough to be shown whole."""
        return cls(digest(content), json.loads(json.dumps(content)))  # as it will be read from a file


@dataclass(frozen=True)
class Fingerprint:
    """Everything that reference values depend on."""

    parts: Mapping[str, Part]
    answers: Mapping[int, str] = field(default_factory=dict)
    """example_id -> digest of its tokens."""
    held_out: Mapping[int, str] = field(default_factory=dict)

    def with_held_out(self, other: "Fingerprint") -> "Fingerprint":
        """This one, with the held-out answers of another."""
        return Fingerprint(
            {**self.parts, **{name: other.parts[name] for name in _HELD_OUT}}, self.answers, other.held_out
        )

    @property
    def identity(self) -> str:
        """Digest of the parts that every value depends on."""
        return digest({name: part.digest for name, part in self.parts.items() if name not in _HELD_OUT})


def fingerprint_of(
    model: nn.Module,
    denoiser: Denoiser,
    tokenizer: PreTrainedTokenizerBase | None,
    dataset: Dataset,
    args: DrawConfig,
    held_out: Datasets | None = None,
    adapters: bool = False,
) -> Fingerprint:
    """The fingerprint of a run's reference values.

    Args:
        model: the reference before training and before distributed wrappers; of new adapters, their base model counts.
        denoiser: the policy's or the reference's: mask token and shift of the logits.
        tokenizer: the run's; None if the rows came as tokens.
        dataset: tokenised answers or groups.
        args: the run's. `num_draws_weight` counts before `num_draws`, since it is pass 1 that asks the reference.
        held_out: tokenised answers that evaluation will score.
        adapters: the reference is a peft model whose adapters are on and change it.

    Raises:
        UserError: one `example_id` stands for answers of different tokens.
    """
    tensors = [tensor for _, tensor in weights_of(model, adapters)]
    precision = {
        "dtype": ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})),
        "autocast": "bfloat16" if args.bf16 else "float16" if args.fp16 else "none",
        "tf32": bool(args.tf32),
    }
    parts = {
        "model weights": Part(
            digest_of_weights(model, adapters), {"tensors": len(tensors), "numbers": sum(t.numel() for t in tensors)}
        ),
        "model configuration": Part.of(settings_of_model(model)),
        "tokenizer": _tokenizer_part(tokenizer),
        "end of answer": Part.of({"end_of_answer": args.end_of_answer, "canvas_length": args.canvas_length}),
        DRAWS: Part.of(_draws(args, getattr(args, "num_draws_weight", None) or args.num_draws, dataset)),
        "precision": Part.of(precision),
        "device and attention": Part.of(
            {"device": args.device.type, "attn_implementation": unwrap(model).config._attn_implementation}
        ),
        "mask token": Part.of({"mask_token_id": denoiser.mask_token_id, "logit_shift": denoiser.logit_shift}),
        "code": Part.of({"estimator_version": ESTIMATOR_VERSION, "tokens_per_block": CANONICAL_TOKENS}),
    }
    answers = _digests(dataset, "--dataset_name")
    parts[DATA] = _data_part(answers)
    if held_out is None:
        return Fingerprint(parts, answers)
    held_out_answers = _digests(held_out, "--eval_dataset_name", args.max_eval_samples)
    parts[HELD_OUT_DRAWS] = Part.of(_draws(args, args.eval_num_draws or args.num_draws, held_out))
    parts[HELD_OUT_DATA] = _data_part(held_out_answers)
    return Fingerprint(parts, answers, held_out_answers)


def differences(there: Fingerprint, here: Fingerprint) -> list[str]:
    """What of a run (`here`) differs from a cache (`there`), in words; draws that nest do not."""
    found = []
    for name, part in here.parts.items():
        other = there.parts.get(name)
        if name in (DATA, HELD_OUT_DATA):
            continue  # compared answer by answer below
        if other is None:
            if name != HELD_OUT_DRAWS:
                found.append(name)
        elif other.digest != part.digest and not (
            name in (DRAWS, HELD_OUT_DRAWS) and _serves(other.content, part.content)
        ):
            found.append(f"{name}{_changes(other.content, part.content)}")
    found += _other_answers(DATA, there.answers, here.answers)
    return found + (_other_answers(HELD_OUT_DATA, there.held_out, here.held_out) if there.held_out else [])


def _other_answers(name: str, there: Mapping[int, str], here: Mapping[int, str]) -> list[str]:
    absent = sorted(key for key in here if key not in there)
    other = sorted(key for key, tokens in here.items() if there.get(key, tokens) != tokens)
    said = [f"other tokens in row {name_rows(other)}"] if other else []
    said += [f"no row {name_rows(absent)} there"] if absent else []
    return [f"{name} ({'; '.join(said)})"] if said else []


def _draws(args: DrawConfig, num_draws: int, dataset: Datasets) -> dict[str, Any]:
    """The arguments of `plan`."""
    shared = any(answer.size_id != ALONE for answer in answers_of(dataset, args.share_sizes, limit=1))
    return {
        "seed": args.plan_seed,
        "draw_design": args.draw_design,
        "num_draws": num_draws,
        "masks_per_size": args.masks_per_size if num_draws % args.masks_per_size == 0 else 1,
        "strata_exponent": args.strata_exponent,
        "size_exponent": args.size_exponent,
        "sizes": "shared by the candidates of a prompt" if shared else "drawn for each answer",
    }


def _serves(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether the first draws there are the draws here."""
    if there["num_draws"] < here["num_draws"] or not nests(here["draw_design"]):
        return False
    return {**there, "num_draws": here["num_draws"]} == dict(here)


def _changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """` (num_draws 8 there, 4 here)`, as far as the contents tell."""
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    said = [f"{name} {there.get(name)} there, {here.get(name)} here" for name in names[:3]]
    said += [f"{len(names) - 3} more"] if len(names) > 3 else []
    return f" ({'; '.join(said)})" if said else ""


def _data_part(answers: Mapping[int, str]) -> Part:
    return Part(digest(sorted(answers.items())), {"answers": len(answers)})


def _tokenizer_part(tokenizer: PreTrainedTokenizerBase | None) -> Part:
    if tokenizer is None:
        return Part.of({"tokens": 0})
    return Part(digest_of_tokenizer(tokenizer), {"tokens": len(tokenizer)})


def _digests(dataset: Datasets, flag: str, limit: int | None = None) -> dict[int, str]:
    found: dict[int, str] = {}
    clashes = set()
    for response, _ in answers_of(dataset, share_sizes=False, limit=limit):
        tokens = digest_of_answer(response)
        if found.setdefault(response.example_id, tokens) != tokens:
            clashes.add(response.example_id)
    if clashes:
        raise UserError(
            f"{flag}: row {name_rows(sorted(clashes))} stands for several answers, and values that are kept by row "
            "would be confused; give each answer its own example_id, and one held-out set instead of several"
        )
    return found
