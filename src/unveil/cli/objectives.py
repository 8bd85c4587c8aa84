"""`unveil objectives`: the table of all preference objectives, for people and (`--json`) for programs."""

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from unveil.cli.parser import parse
from unveil.errors import UserError
from unveil.objectives import RECIPES, Recipe

DESCRIPTION = """List the preference objectives: the data that each takes, whether it needs a reference, its arguments
with their published defaults (`--objective_args name=value`; `--beta` and a few more have flags of their own), and
the paper. With --objective, tell everything about one."""
DATA = {
    "unpaired": "thumbs: prompt, completion, label",
    "pairs": "pairs: prompt, chosen, rejected",
    "lists": "lists: prompt, completions, scores",
}


@dataclass
class ObjectivesArguments:
    """What to list, and how"""

    objective: str | None = field(default=None, metadata={"help": "Tell about this one; unset: the table of all."})
    json: bool = field(default=False, metadata={"help": "Print JSON."})


def main(argv: Sequence[str]) -> None:
    """Parse and print."""
    (args,) = parse((ObjectivesArguments,), argv, "unveil objectives", DESCRIPTION)
    if args.objective is not None and args.objective not in RECIPES:
        raise UserError(f"--objective {args.objective}: unknown; choose one of {', '.join(RECIPES)}")
    chosen = [RECIPES[args.objective]] if args.objective else list(RECIPES.values())
    if args.json:
        print(json.dumps([as_dict(recipe) for recipe in chosen], indent=2))
    elif args.objective:
        print(described(chosen[0]))
    else:
        Console(width=122).print(table(chosen))


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """One row for programs."""
    return {
        "name": recipe.name,
        "data": recipe.shape,
        "columns": list(recipe.columns),
        "needs_reference": recipe.needs_reference,
        "defaults": recipe.defaults,
        "paper": recipe.paper,
        "summary": recipe.summary,
    }


def table(recipes: Sequence[Recipe]) -> Table:
    """One row per objective; arguments stand below what it is."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    headers = {"objective": 17, "what it is, and its arguments": 58, "data": 17, "ref.": 4, "paper": 14}
    for header, width in headers.items():
        made.add_column(header, width=width)
    for recipe in recipes:
        arguments = ", ".join(f"{name} {_shown(value)}" for name, value in recipe.defaults.items())
        data = recipe.shape + "".join(f" + {name}" for name in recipe.columns if name != "relevance")
        reference = "yes" if recipe.needs_reference else "no"
        about = f"{recipe.summary}\n[dim]{arguments or 'no arguments'}[/dim]"
        made.add_row(recipe.name, about, data, reference, recipe.paper)
    return made


def described(recipe: Recipe) -> str:
    """Everything about one objective: its docstring is the reference text."""
    arguments = "\n".join(f"  {name} = {_shown(value)}" for name, value in recipe.defaults.items()) or "  none"
    extra = ", ".join(name for name in recipe.columns if name != "relevance")
    return (
        f"{recipe.name}: {recipe.summary}\npaper: {recipe.paper}\n"
        f"data: {DATA[recipe.shape]}{f'; further columns: {extra}' if extra else ''}\n"
        f"reference: {'needed' if recipe.needs_reference else 'not needed'}\n"
        f"arguments and defaults:\n{arguments}\n\n{inspect.getdoc(recipe.make)}"
    )


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    return f"{value:g}" if isinstance(value, float) else str(value)
