"""What `benchmarks.estimator` measures on: the shipped base and an aligned copy of it, or any other pair of models."""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers import PreTrainedModel

from benchmarks.measuring import progress
from unveil.cli.likelihood import LikelihoodArguments, read_answers
from unveil.cli.loading import load_for_use, require_same_family
from unveil.cli.options import UseArguments
from unveil.data import unpaired_rows
from unveil.demo.align import align, tokenized
from unveil.demo.base import Base, load_base
from unveil.demo.order import in_hash_order
from unveil.demo.recipe import Recipe
from unveil.demo.reviews import feedback_rows
from unveil.diagnostics.perturbation import perturbed_copy
from unveil.files import replace_folder
from unveil.likelihood import Response
from unveil.models import Denoiser, load_denoiser_model
from unveil.training import tokenize

SPLIT = "tuning"


class Pair(NamedTuple):
    """A policy, its reference, answers, and words for what they are."""

    policy: Denoiser
    reference: Denoiser
    responses: list[Response]
    about: dict[str, Any]


def demo_pair(answers: int, steps: int, aligned: Path | None, folder: Path | None, base: str | None = None) -> Pair:
    """The shipped base as reference; the policy is `aligned`, or made here and kept in `folder`."""
    loaded, recipe = load_base(base), replace(Recipe(), steps=steps)
    kept = folder / "aligned" if folder else None
    source = aligned or (kept if kept is not None and kept.exists() else None)
    model = _aligned(loaded, recipe, kept) if source is None else load_denoiser_model(source, torch.float32)
    responses = [Response.from_row(dict(row)) for row in tokenized(_texts(answers), loaded, *_rule(recipe))]  # type: ignore
    about = {
        "model": str(aligned) if aligned else f"{loaded.name} after {steps} steps of the demo's recipe",
        "reference": loaded.name,
        "texts": f"held-out thumbs of the demo ({SPLIT} split), {recipe.end_of_answer}",
        "base_weights": loaded.fingerprints["base_weights"],
    }
    return Pair(Denoiser(model), loaded.denoiser, responses, about)


def _rule(recipe: Recipe) -> tuple[str, int]:
    return recipe.end_of_answer, recipe.canvas_length


def _aligned(base: Base, recipe: Recipe, kept: Path | None) -> PreTrainedModel:
    """Train, and keep the result for the next call."""
    progress(f"aligning the shipped base: {recipe.steps} steps of the demo's recipe")
    done = [0]

    def advance(count: int) -> None:
        done[0] += count
        if done[0] % 10 == 0:
            progress(f"aligning: step {done[0]}/{recipe.steps}")

    if kept is None:
        with tempfile.TemporaryDirectory() as folder:
            return align(base, recipe, Path(folder), False, advance).model
    with replace_folder(kept) as folder:
        model = align(base, recipe, folder, False, advance).model
        model.save_pretrained(folder)
    return load_denoiser_model(kept, torch.float32)


def _texts(answers: int) -> list[dict[str, Any]]:
    """Held-out rated reviews, half of them liked, in an order that has nothing to do with what they say."""
    rows = in_hash_order(feedback_rows(SPLIT), lambda row: row["prompt"] + row["completion"])
    kinds = [[row for row in rows if row["label"] is label] for label in (True, False)]
    return [row for pair in zip(*kinds) for row in pair][:answers]


def given_pair(args: argparse.Namespace) -> Pair:
    """The models that the flags name."""
    wanted = UseArguments(model_name_or_path=args.model, device=args.device, dtype=args.dtype)
    policy, tokenizer = load_for_use(wanted, args.model)
    if args.reference:
        reference, _ = load_for_use(wanted, args.reference, tokenizer)
        require_same_family(policy, reference, args.reference)
    else:
        reference = perturbed_copy(policy, args.perturbation, args.seed)
    limits = LikelihoodArguments(
        dataset_name=args.dataset_name, max_samples=args.answers, max_length=args.max_length, on_bad_rows="drop"
    )
    if args.dataset_name:
        rows, texts = read_answers(limits), args.dataset_name
    else:
        rows = unpaired_rows(Dataset.from_list(_texts(args.answers)), "demo reviews", allow_one_label=True)
        texts = f"held-out thumbs of the demo ({SPLIT} split)"
    ids: Sequence[Any] = tokenize(rows, tokenizer, policy, limits, texts)  # type: ignore[assignment]
    about = {
        "model": args.model,
        "reference": args.reference or f"a copy with {args.perturbation:g} relative noise",
        "texts": f"{texts}, {limits.end_of_answer}",
        "dtype": str(policy.model.dtype).removeprefix("torch."),  # type: ignore[union-attr]
    }
    return Pair(policy, reference, [Response.from_row(row) for row in ids], about)
