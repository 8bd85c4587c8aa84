"""Hyper-parameters out of range, told by the name that the command line uses."""

import math

from unveil.errors import UserError


def refuse(name: str, value: object, must: str) -> None:
    """Raise the error of one hyper-parameter: `--objective_args eps=0.6: must be below 0.5`."""
    raise UserError(f"--objective_args {name}={value}: must {must}")


def positive(**values: float) -> None:
    """Every value must be finite and above 0."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            refuse(name, value, "be above 0 and finite")


def not_negative(**values: float) -> None:
    """Every value must be finite and at least 0."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            refuse(name, value, "not be negative, and be finite")


def flip_rate(*, above_zero: bool = False, **values: float) -> None:
    """Every value must be a share of flipped labels: from 0 (or above it) to below 1/2."""
    for name, value in values.items():
        if not value < 0.5:
            refuse(name, value, "be below 0.5; at one half the labels say nothing")
        if value < 0 or (above_zero and value == 0):
            refuse(name, value, "be above 0" if above_zero else "not be negative")


def one_of(choices: tuple[str, ...], **values: str) -> None:
    """Every value must be one of the choices."""
    for name, value in values.items():
        if value not in choices:
            refuse(name, value, f"be one of {', '.join(choices)}")
