"""The table that `unveil evaluate` prints."""

from typing import Any

from rich.table import Table
from rich.text import Text

from unveil.terminal import PlainConsole, one_line, say


def print_results(record: dict[str, Any]) -> None:
    """One row per metric; below, what was asked of the model."""
    say(f"model: {record['model']}")
    table = Table("task", "documents", "shots", "metric", "value", "+- documents", "+- draws", "undecided")
    for name, task in record["tasks"].items():
        for row in task["metrics"]:
            draws = (task.get("draws") or {}).get(row["metric"], {})
            table.add_row(
                name,
                str(task["documents"]),
                "-" if task["num_fewshot"] is None else str(task["num_fewshot"]),
                _metric(row),
                _number(row["value"]),
                _number(row["standard_error"]),
                _number(draws["standard_error"]) if draws else "-",
                "-" if not draws else "not known" if draws["within_error"] is None else f"{draws['within_error']:.1%}",
            )
    for name, group in record["groups"].items():
        for row in group["metrics"]:
            table.add_row(
                Text(one_line(name), style="bold"),
                "",
                "",
                _metric(row),
                _number(row["value"]),
                _number(row["standard_error"]),
                "",
                "",
            )
    PlainConsole(width=118).print(table)
    say(*footnotes(record))


def footnotes(record: dict[str, Any]) -> list[str]:
    """What the columns mean, where they say something, and the ELBO of each task's targets."""
    lines = []
    if any(task.get("draws") for task in record["tasks"].values()):
        lines.append("undecided: questions whose first two options are within the standard error of their ELBO")
    for name, task in record["tasks"].items():
        if elbo := task.get("elbo"):
            lines.append(
                f"{name}: mean ELBO {elbo['mean']:.3f} +- {_number(elbo['mean_standard_error'])} nats over draws, "
                f"{elbo['requests']} targets of {elbo['tokens'] / elbo['requests']:.1f} tokens, "
                f"{elbo['forwards']} forwards"
            )
    asked = record["requests"]
    lines.append(f"{asked['computed']} requests computed, {asked['answered_before']} known from before")
    return lines


def _metric(row: dict[str, Any]) -> str:
    arrow = {True: " (higher)", False: " (lower)"}.get(row["higher_is_better"], "")
    return f"{row['metric']}{'' if row['filter'] == 'none' else ' ' + row['filter']}{arrow}"


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"
