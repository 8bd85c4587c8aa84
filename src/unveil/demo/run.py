"""`run_demo`: the whole demo from Python. The output folder appears whole, or not at all."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from unveil.demo.base import Base, load_base
from unveil.demo.card import model_card
from unveil.demo.experiment import Experiment, experiment
from unveil.demo.figures import FIGURES
from unveil.demo.progress import Stages
from unveil.demo.provenance import run_record
from unveil.demo.recipe import Recipe, Split
from unveil.demo.report import report
from unveil.demo.results import Results
from unveil.errors import UserError
from unveil.files import replace_folder, require_empty, require_place_for_folder, write_bytes, write_json, write_text
from unveil.locks import claimed
from unveil.report import Picture

CONTENTS = ("aligned", "answers.jsonl", "base", "figures", "metrics.jsonl", "report.html", "run.json")


def run_demo(
    recipe: Recipe | None = None,
    output_dir: str | Path = "unveil-demo",
    base: Base | str | Path | None = None,
    shuffled: bool = False,
    split: Split = "report",
    progress: bool = True,
    overwrite: bool = False,
    started: float | None = None,
    command: str = "unveil.demo.run_demo",
) -> Results:
    """Align the base, compare, measure, and write checkpoint, report and numbers to `output_dir`.

    recipe: the settings, by default those chosen on the tuning split. base: another base model or its folder than the
    shipped one. shuffled: permute the thumbs first (the control). started: `time.perf_counter()` at which the clock
    began, so that `seconds` can include imports. command: what `run.json` says was run.

    Raises:
        UserError: `output_dir` is not empty (and not a demo's folder to `overwrite`), or the base cannot be used.
    """
    started = time.perf_counter() if started is None else started
    recipe = recipe or Recipe()
    check_output(output_dir, overwrite)
    with claimed(output_dir, beside=True), replace_folder(output_dir) as folder, Stages(progress) as stages:
        base = base if isinstance(base, Base) else load_base(base)
        found = experiment(base, recipe, split, folder, stages, shuffled)
        with stages.stage("write report", len(FIGURES)) as advance:
            drawn = {name: (picture(found, recipe), advance(1))[0] for name, picture in FIGURES.items()}
        results = replace(found.results, seconds=time.perf_counter() - started)
        found = replace(found, results=results)
        record = run_record(base, recipe, found, split, shuffled, stages.seconds, command)
        write_outputs(folder, base, recipe, found, record, drawn)
    return results


def check_output(output_dir: str | Path, overwrite: bool) -> None:
    """Refuse the working folder and one that holds something; with `overwrite`, one with more than a demo's output."""
    path = Path(output_dir)
    require_place_for_folder(path)
    if Path.cwd().is_relative_to(path.resolve()):
        raise UserError(
            f"--output_dir {output_dir}: the working folder is in it, and it is replaced as a whole; name another"
        )
    require_empty(output_dir, overwrite, "--output_dir")
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in CONTENTS) if path.is_dir() else []
    if foreign:
        raise UserError(
            f"--output_dir {output_dir}: holds {foreign[0]}, which no demo wrote and which would be lost; give another "
            "folder"
        )


def write_outputs(
    folder: Path, base: Base, recipe: Recipe, found: Experiment, record: dict[str, Any], drawn: dict[str, Picture]
) -> None:
    """Everything but `metrics.jsonl`, which training wrote."""
    for name, picture in drawn.items():
        write_bytes(folder / "figures" / f"{name}.png", picture.png)
    aligned = folder / "aligned"
    found.model.save_pretrained(aligned)
    base.tokenizer.save_pretrained(str(aligned))
    write_text(aligned / "README.md", model_card(found.results, record))
    base.copy_to(folder / "base")
    write_text(folder / "answers.jsonl", _answers(found))
    write_text(folder / "report.html", report(found, recipe, record, drawn))
    write_json(folder / "run.json", record)


def _answers(found: Experiment) -> str:
    """Every prompt with both answers, their ratings and the outcome for the aligned model, one JSON object a line."""
    evidence = found.evidence
    judged = evidence.against_base
    rows = zip(
        evidence.prompts, evidence.base.texts, evidence.aligned.texts, judged.other_ratings, judged.ratings,
        judged.outcomes,
    )  # fmt: skip
    names = ("prompt", "base", "aligned", "base_rating", "aligned_rating", "outcome")
    return "".join(
        json.dumps(dict(zip(names, (*texts, round(float(a), 4), round(float(b), 4), float(o)))), ensure_ascii=False)
        + "\n"
        for *texts, a, b, o in rows
    )
