"""From flags to an objective: `--objective dpo --beta 0.2 --objective_args eps=0.1`."""

import inspect
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from unveil.errors import UserError
from unveil.objectives import RECIPES, Objective, Recipe, jackknife, sft
from unveil.training.config import PreferenceConfig

# Flags of their own, as in TRL; they mean something to some objectives only.
OWN_FLAGS = ("beta", "desirable_weight", "undesirable_weight", "baseline", "sft_weight")


def recipe_of(name: str) -> Recipe:
    """The recipe of a name on the command line."""
    if name not in RECIPES:
        raise UserError(
            f"--objective {name}: unknown; choose one of {', '.join(RECIPES)} (`unveil objectives` tells about them)"
        )
    return RECIPES[name]


def objective_of(args: PreferenceConfig) -> Objective:
    """The objective that the flags describe.

    Raises:
        UserError: an unknown objective, an argument that it does not have, or a value that it cannot take.
    """
    recipe = recipe_of(args.objective)
    parameters = inspect.signature(recipe.make).parameters
    given = parse_arguments(args.objective, parameters, args.objective_args)
    for name in OWN_FLAGS:
        value = getattr(args, name)
        if value is None or (name == "sft_weight" and name not in parameters):
            continue
        if name in given:
            raise UserError(f"--{name}: is given a second time in --objective_args; give it once")
        if name not in parameters:
            raise UserError(
                f"--{name} {value}: --objective {args.objective} has no {name}; it takes "
                f"{', '.join(parameters) or 'no arguments'}"
            )
        given[name] = value
    objective = recipe.make(**given)
    if args.sft_weight and "sft_weight" not in parameters:
        objective = objective + args.sft_weight * sft()
    return jackknife(objective, args.draws_per_group) if args.debias == "jackknife" else objective


def parse_arguments(
    objective: str, parameters: Mapping[str, inspect.Parameter], given: list[str] | dict[str, Any] | None
) -> dict[str, Any]:
    """`["eps=0.1", "pairs=all"]` (or a mapping, from YAML) as typed keyword arguments of a recipe."""
    if isinstance(given, dict):
        items = [(str(name), value) for name, value in given.items()]
    else:
        items = [_name_and_value(item) for item in given or []]
    found: dict[str, Any] = {}
    for name, value in items:
        if name not in parameters:
            raise UserError(
                f"--objective_args {name}: --objective {objective} has no such argument; it takes "
                f"{', '.join(parameters) or 'none'}"
            )
        if name in found:
            raise UserError(f"--objective_args {name}: is given twice")
        found[name] = _typed(name, value, parameters[name])
    return found


def _name_and_value(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals or not name or not value:
        raise UserError(f"--objective_args {item}: write name=value, for example eps=0.1")
    return name, value


def _typed(name: str, value: Any, parameter: inspect.Parameter) -> Any:
    """The value in the type that the recipe's signature declares."""
    kind, default = parameter.annotation, parameter.default
    choices = get_args(kind) if get_origin(kind) is Literal else None
    if choices is not None:
        if value not in choices:
            raise UserError(f"--objective_args {name}={value}: must be one of {', '.join(map(str, choices))}")
        return value
    if isinstance(default, bool):
        text = str(value).lower()
        if text not in ("true", "false"):
            raise UserError(f"--objective_args {name}={value}: must be true or false")
        return text == "true"
    if isinstance(default, int):
        return _number(name, value, int, "a whole number")
    if isinstance(default, float) or default is None:
        return _number(name, value, float, "a number")
    return value


def _number(name: str, value: Any, kind: type, what: str) -> Any:
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    cut = isinstance(value, float) and number != value and not math.isnan(value)
    if number is None or isinstance(value, bool) or cut:
        raise UserError(f"--objective_args {name}={value}: must be {what}")
    return number
