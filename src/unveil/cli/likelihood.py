"""`unveil likelihood`: the ELBO of answers with its standard error, and the margin over a reference."""

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console
from rich.progress import track
from rich.table import Table

from unveil.cli.inputs import refuse_to_lose_inputs
from unveil.cli.loading import load_for_use, require_same_family
from unveil.cli.options import LABEL_MAP, HeldOutArguments, UseArguments
from unveil.cli.output import excerpt, require_new_file, write_rows
from unveil.cli.parser import parse
from unveil.data import sft_rows, unpaired_rows
from unveil.draws import Plan, check_design, plan
from unveil.errors import UserError, name_rows
from unveil.likelihood import Response, degrees_of_freedom, half_width, score, standard_error
from unveil.models import Denoiser
from unveil.terminal import PlainConsole
from unveil.training import tokenize
from unveil.training.preference_metrics import pair_accuracy, ranking_accuracy
from unveil.training.scored import Scored
from unveil.training.shared_trainer import EVALUATION_EPOCH

DESCRIPTION = """Estimate the ELBO (a lower bound of the log-likelihood, in nats) of every answer given its prompt, with
its standard error. With --ref_model_name_or_path also the margin over a reference, on the same draws."""
_CHUNK = 64
_SHOWN_ROWS = 20


@dataclass
class LikelihoodArguments(HeldOutArguments):
    """Which answers, and how they are scored"""

    ref_model_name_or_path: str | None = field(default=None, metadata={"help": "Reference model, for margins."})
    label_map: list[str] | None = field(default=None, metadata={"help": LABEL_MAP})
    output_file: str | None = field(default=None, metadata={"help": "Write JSON lines there, one per answer."})
    num_draws: int = field(default=32, metadata={"help": "Monte-Carlo draws (forward passes) per answer."})
    draw_design: str = field(
        default="quadratic_tiling", metadata={"help": "Draw design: quadratic_tiling, or iid as published."}
    )
    masks_per_size: int = field(default=1, metadata={"help": "Draws that share one mask size (n_yt); published: 1."})
    strata_exponent: float = field(default=2.0, metadata={"help": "Exponent of quadratic_tiling's strata."})
    seed: int = field(
        default=42, metadata={"help": "Seed of the draws; with that of a run, the draws of its evaluation."}
    )
    tokens_per_batch: int = field(default=8192, metadata={"help": "Tokens in one forward pass; changes no result."})
    max_length: int | None = field(
        default=None, metadata={"help": "Longest prompt + answer in tokens; unset: the model's context."}
    )
    end_of_answer: str = field(
        default="one_eos",
        metadata={"help": "Ending: one_eos, end_of_turn, none, visible_tail, eos_visible_tail or scored_tail."},
    )
    canvas_length: int | None = field(
        default=None, metadata={"help": "Answer tokens up to which the *_tail rules fill with end-of-text tokens."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_design(self.draw_design, self.num_draws, self.masks_per_size, self.strata_exponent)
        if self.tokens_per_batch < 1:
            raise UserError(f"--tokens_per_batch {self.tokens_per_batch}: at least 1 is needed")


def main(argv: Sequence[str]) -> None:
    """Parse, read, load, score, print, write."""
    model_args, data = parse(
        (UseArguments, LikelihoodArguments),
        argv,
        "unveil likelihood",
        DESCRIPTION,
        required={"model_name_or_path": "a hub name or a folder", "dataset_name": "a hub name or a file"},
    )
    require_new_file(data.output_file, data.overwrite)
    refuse_to_lose_inputs([data.output_file], "--output_file", argv, model_args, data)
    rows = read_answers(data)
    denoiser, tokenizer = load_for_use(model_args, str(model_args.model_name_or_path))
    reference = None
    if data.ref_model_name_or_path:
        reference, _ = load_for_use(model_args, data.ref_model_name_or_path, tokenizer)
        require_same_family(denoiser, reference, data.ref_model_name_or_path)
    tokenized = tokenize(rows, tokenizer, denoiser, data, str(data.dataset_name))
    results = scored(tokenized, data, denoiser, reference)
    texts: dict[int, dict[str, Any]] = {row["example_id"]: dict(row) for row in rows}  # type: ignore[index, call-overload]
    results = [{**texts[row["example_id"]], **row} for row in results]
    if data.output_file:
        write_rows(data.output_file, results)
    else:
        print_rows(results)
    print("\n".join(summary(results)))


def read_answers(data: LikelihoodArguments) -> Dataset:
    """Thumbs, pairs (taken apart) or answers without feedback, whichever the columns say."""
    name = str(data.dataset_name)
    rows = data.read_held_out()
    renamed = data.columns() or {}
    names = {renamed.get(column, column) for column in rows.column_names}
    bad_rows: Any = data.on_bad_rows
    if {"chosen", "rejected"} <= names or {"prompt", "completion", "label"} <= names:
        return unpaired_rows(
            rows, name, column_map=renamed, on_bad_rows=bad_rows, allow_one_label=True, label_map=data.labels()
        )
    return sft_rows(rows, name, column_map=renamed, on_bad_rows=bad_rows)


def scored(
    rows: Dataset, data: LikelihoodArguments, denoiser: Denoiser, reference: Denoiser | None
) -> list[dict[str, Any]]:
    """One record per answer; nats, summed over its scored tokens, and per token."""
    results = []
    starts = range(0, len(rows), _CHUNK)
    for start in track(starts, "scoring", console=Console(stderr=True)) if sys.stderr.isatty() else starts:
        part = [rows[place] for place in range(start, min(start + _CHUNK, len(rows)))]
        responses = [Response.from_row(row) for row in part]
        plans = [
            plan(
                data.seed, response.example_id, EVALUATION_EPOCH, response.length,
                data.num_draws, data.draw_design, data.masks_per_size, data.strata_exponent,
            )
            for response in responses
        ]  # fmt: skip
        ours = score(denoiser, responses, plans, data.tokens_per_batch)
        theirs = score(reference, responses, plans, data.tokens_per_batch) if reference else None
        for index, (row, response) in enumerate(zip(part, responses)):
            value, length = float(ours.values[index]), response.length
            record: dict[str, Any] = {
                "example_id": response.example_id,
                "tokens": length,
                "truncated": row["truncated"],
                "elbo": value,
                **_error("", value, ours.standard_error[index], plans[index]),
                "elbo_per_token": value / length,
            }
            if theirs is not None:
                difference = ours.per_draw[index] - theirs.per_draw[index]
                record["reference_elbo"] = float(theirs.values[index])
                record["margin"] = value - record["reference_elbo"]
                record |= _error("margin_", record["margin"], standard_error(difference, plans[index]), plans[index])
            results.append(record)
    _refuse_what_is_not_finite(results, str(data.dataset_name))
    return results


def _error(name: str, value: float, error: torch.Tensor, drawn: Plan) -> dict[str, Any]:
    """The standard error and Student's 95 % interval over draws; None where so few draws do not tell."""
    degrees = degrees_of_freedom(drawn)
    half = half_width(float(error), degrees)
    known = math.isfinite(half)
    return {
        f"{name}standard_error": float(error) if known else None,
        f"{name}interval": [value - half, value + half] if known else None,
    }


def _refuse_what_is_not_finite(results: list[dict[str, Any]], source: str) -> None:
    bad = [r["example_id"] for r in results if not math.isfinite(r["elbo"] + r.get("reference_elbo", 0.0))]
    if bad:
        raise UserError(
            f"{source}: the likelihood of row {name_rows(bad)} is not a finite number; check the checkpoint, and try "
            "--dtype float32"
        )


def print_rows(results: list[dict[str, Any]]) -> None:
    """The first answers as a table."""
    margins = "margin" in results[0]
    table = Table("row", "label", "tokens", "ELBO (nats)", "per token", *["margin"] * margins, "answer")
    for row in results[:_SHOWN_ROWS]:
        cells = [
            str(row["example_id"]),
            {True: "up", False: "down"}.get(row.get("label"), ""),  # type: ignore[arg-type]
            str(row["tokens"]),
            _with_error(row["elbo"], row["standard_error"]),
            f"{row['elbo_per_token']:.3f}",
            *([_with_error(row["margin"], row["margin_standard_error"])] if margins else []),
        ]
        table.add_row(*cells, excerpt(row["completion"]))
    PlainConsole(width=118).print(table)
    if len(results) > _SHOWN_ROWS:
        print(f"and {len(results) - _SHOWN_ROWS} more; --output_file FILE.jsonl writes all")


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.2f} +- {'not known' if error is None else f'{error:.2f}'}"


def summary(results: list[dict[str, Any]]) -> list[str]:
    """Means over answers with their standard errors; with a reference, how well margins follow the thumbs."""
    per_token = [row["elbo_per_token"] for row in results]
    lines = [f"mean ELBO per token {_mean(per_token)} nats over {len(results)} answers (+- over answers)"]
    if "margin" in results[0]:
        kinds = {True: "thumbs up", False: "thumbs down", None: "all answers"}
        for label in (True, False, None):
            margins = [row["margin"] for row in results if row.get("label") is label]
            if margins:
                lines.append(f"mean margin of {kinds[label]} {_mean(margins)} nats ({len(margins)} answers)")
    if "margin" in results[0] and "label" in results[0]:
        records = [
            Scored(
                row["example_id"],
                (0, 0, place),
                float(row["label"]),
                row["label"],
                row["tokens"],
                row["elbo"],
                row["reference_elbo"],
                0.0,
            )
            for place, row in enumerate(results)
        ]
        for name, value in (ranking_accuracy(records) | pair_accuracy(records)).items():
            what = "pairs" if name.endswith("accuracies") else "thumbs (area under the curve)"
            lines.append(f"margins rank {value:.1%} of the {what} rightly")
    return lines


def _mean(values: list[float]) -> str:
    """Mean and its standard error over answers; of a single one nothing is known."""
    error = f"{statistics.stdev(values) / math.sqrt(len(values)):.4f}" if len(values) > 1 else "not known"
    return f"{statistics.fmean(values):.4f} +- {error}"
