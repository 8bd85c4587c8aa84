"""`unveil report`: several runs side by side, in one page that holds everything in itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table as PrintedTable

from unveil.cli.inputs import refuse_to_lose_inputs
from unveil.cli.output import require_new_file
from unveil.cli.parser import parse
from unveil.cli.report_figures import figures
from unveil.cli.report_tables import cost_table, displacement_table, missing, rate_table
from unveil.cli.run_records import RunRecord, read_runs
from unveil.files import require_place_for_folder, write_bytes, write_text
from unveil.report import Bullets, Gallery, Pairs, Paragraph, Picture, Section, Table, page
from unveil.terminal import PlainConsole, say

DESCRIPTION = """Compare runs (folders of unveil train, sft, demo and compare) on one page: win rates with intervals,
reward curves, where likelihoods went, lengths, cost. `unveil report RUN RUN ... --output_file report.html`; a folder of
unveil compare counts for the run whose model it compared, if both are given."""


@dataclass
class ReportArguments:
    """Which runs, and where the page goes"""

    runs: list[str] | None = field(
        default=None, metadata={"help": "Run folders; before the other flags they need no --runs."}
    )
    output_file: str = field(default="report.html", metadata={"help": "The page: one HTML file."})
    figures_dir: str | None = field(default=None, metadata={"help": "Folder for the figures as PNG files too."})
    title: str = field(default="unveil: runs compared", metadata={"help": "Heading of the page."})
    overwrite: bool = field(default=False, metadata={"help": "Allow an output that exists already."})


def main(argv: Sequence[str]) -> None:
    """Read, print the tables, write the page."""
    (wanted,) = parse(
        (ReportArguments,), _with_flag(argv), "unveil report", DESCRIPTION, required={"runs": "run folders"}
    )
    require_new_file(wanted.output_file, wanted.overwrite)
    refuse_to_lose_inputs([wanted.output_file], "--output_file", argv, wanted)
    if wanted.figures_dir:
        require_place_for_folder(wanted.figures_dir, "--figures_dir")
    runs = read_runs(wanted.runs)
    pictures = figures(runs)
    tables = {"Win rates": rate_table(runs), "Likelihood": displacement_table(runs), "Cost": cost_table(runs)}
    for title, table in tables.items():
        if table.rows:
            _print(title, table)
    for run in runs:
        for part in missing(run):
            say(f"{run.name}: {part}")
    write_text(wanted.output_file, report_page(wanted.title, runs, tables, pictures))
    if wanted.figures_dir:
        for name, picture in pictures.items():
            write_bytes(Path(wanted.figures_dir) / f"{name}.png", picture.png)
    say(f"saved in {wanted.output_file}")


def report_page(title: str, runs: list[RunRecord], tables: dict[str, Table], pictures: dict[str, Picture]) -> str:
    """The whole HTML document."""
    sections = []
    if tables["Win rates"].rows:
        blocks = [tables["Win rates"], Paragraph(_ABOUT_RATES)]
        if "win_rates" in pictures:
            blocks.insert(0, Gallery([pictures["win_rates"]]))
        sections.append(Section("Win rates", blocks))
    curves = [picture for name, picture in pictures.items() if name != "win_rates"]
    if curves:
        sections.append(Section("Training", [Gallery(curves)]))
    sections.append(Section("Where likelihoods went", [tables["Likelihood"], Paragraph(_ABOUT_LIKELIHOOD)]))
    sections.append(Section("Cost and length", [tables["Cost"]]))
    gaps = [(f"{run.name}:", "; ".join(parts) + ".") for run in runs if (parts := missing(run))]
    if gaps:
        sections.append(Section("What is missing", [Bullets(gaps)]))
    sections.append(Section("Settings", [_settings(run) for run in runs]))
    names = ", ".join(run.name for run in runs)
    return page(
        title,
        f"{len(runs)} runs: {names}",
        sections,
        "Made by `unveil report` from run.json, metrics.jsonl and compare.json.",
    )


_ABOUT_RATES = (
    "Wins plus half the ties, with 95 % intervals over prompts: they cover neither another training seed nor another "
    "judge. p is that of the exact sign test; Holm's rule corrects it for the number of rows. The null row is the "
    "other model against itself and should hold 0.5."
)
_ABOUT_LIKELIHOOD = (
    "The margin r = ELBO(policy) - ELBO(reference) says how much more likely answers became: liked (chosen) ones "
    "first, then disliked (rejected) ones. Preference losses only ask for a gap, so both may sink. The last column is "
    "the change of the mean log-likelihood from the first training log to the last, whose batches are not the same "
    "answers."
)


def _settings(run: RunRecord) -> Pairs:
    rows = [("folder", str(run.path), ""), *((name, str(value), "") for name, value in run.arguments.items())]
    return Pairs(run.name, rows)


def _print(title: str, table: Table) -> None:
    shown = PrintedTable(*table.head, title=title, title_justify="left")
    for row in table.rows:
        shown.add_row(*row)
    PlainConsole(width=140).print(shown)


def _with_flag(argv: Sequence[str]) -> list[str]:
    """Folders that stand before all flags belong to `--runs`."""
    if argv and not argv[0].startswith("-"):
        return ["--runs", *argv]
    return list(argv)
