"""Do the reported standard errors hold? Coverage of the 95 % interval for every design, combiner, length and count.

    python -m benchmarks.coverage --output_dir coverage

Answers of exact Markov chains (`benchmarks.coverage_model`), many plans each. The interval is Student's, from the
standard error and the degrees of freedom that the package reports beside every estimate. Per cell: coverage of B and of
the margin r (mean over answers), and the reported error over the true one, root mean square. "exact": nothing is
random; "not known": the package says so; "(!)": coverage outside of 0.92 to 0.98 by more than two standard errors of
the simulation. `--output_dir` gets coverage.md. The last line printed is one JSON object; `--quick` only tries it.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.coverage_model import Case, cases, hidden_of, log_p_of
from benchmarks.measuring import machine, progress
from unveil.draws import DESIGNS, Plan, plan
from unveil.errors import UserError
from unveil.files import write_text
from unveil.likelihood import COMBINERS, check_combiner, degrees_of_freedom, half_width, standard_error
from unveil.likelihood.combiners import error_draws, token_weights
from unveil.likelihood.uncertainty import FEWEST_UNITS

NUM_DRAWS = (1, 2, 4, 8, 32, 128)
LENGTHS = (1, 3, 5, 12, 40)
LOW, HIGH = 0.92, 0.98


class Cell(NamedTuple):
    """One design, combiner, length and number of draws; pairs are of B and of r."""

    design: str
    combiner: str
    length: int
    num_draws: int
    state: str
    """measured, exact or not known."""
    coverage: tuple[float, float] | None = None
    ratio: tuple[float, float] | None = None
    spread: float = 0.0
    """Standard error of a coverage."""

    @property
    def holds(self) -> bool:
        """Whether what is said is right: within 0.92 to 0.98 up to two standard errors of the simulation."""
        if self.coverage is None:
            return True
        return all(LOW - 2 * self.spread <= found <= HIGH + 2 * self.spread for found in self.coverage)

    def text(self) -> str:
        """For the table: coverage of B / r, and the ratios."""
        if self.coverage is None or self.ratio is None:
            return self.state
        mark = "" if self.holds else " (!)"
        return f"{self.coverage[0]:.3f} / {self.coverage[1]:.3f}; {self.ratio[0]:.2f} / {self.ratio[1]:.2f}{mark}"


def cell(design: str, combiner: str, length: int, num_draws: int, answers: Sequence[Case], plans: int) -> Cell:
    """Draw plans, estimate, and count how often the interval holds what is estimated."""
    drawn = [plan(7, example, 0, length, num_draws, design) for example in range(plans)]
    degrees = np.array([degrees_of_freedom(one) for one in drawn])
    if np.isinf(degrees).all():
        return Cell(design, combiner, length, num_draws, "exact")
    few = combiner != "ht" and max(one.sizes_drawn for one in drawn) < FEWEST_UNITS
    if few or (degrees == 0).all():
        return Cell(design, combiner, length, num_draws, "not known")
    hidden_RL, covered, ratios, known = hidden_of(drawn, length), [], [], 0.0
    for case in answers:
        policy, reference = (log_p_of(table, hidden_RL) for table in (case.policy, case.reference))
        for tokens_RL, truth in ((policy, case.elbo), (policy - reference, case.margin)):
            found = list(_estimates(drawn, degrees, tokens_RL, hidden_RL, combiner))
            if not found:
                return Cell(design, combiner, length, num_draws, "not known")
            values, errors, halves = np.array(found).T
            covered.append(np.mean(np.abs(values - truth) <= halves + 1e-9))
            ratios.append((np.mean(errors**2), np.mean((values - truth) ** 2)))
            known = len(found) / plans
    coverage = float(np.mean(covered[::2])), float(np.mean(covered[1::2]))
    squares = [np.sum(ratios[start::2], axis=0) for start in (0, 1)]
    ratio = tuple(float(np.sqrt(reported / true)) if true else 1.0 for reported, true in squares)
    # Plans are shared by the answers, whose results therefore move together.
    spread = math.sqrt(0.05 * 0.95 / (plans * known))
    return Cell(design, combiner, length, num_draws, "measured", coverage, ratio, spread)  # type: ignore[arg-type]


def _estimates(
    drawn: Sequence[Plan], degrees: np.ndarray, tokens_RL: np.ndarray, hidden_RL: np.ndarray, combiner: str
) -> Iterator[tuple[float, float, float]]:
    """Value, standard error and half of the interval of each plan whose error is known."""
    start, sums_R = 0, tokens_RL.sum(axis=1)
    for one, freedom in zip(drawn, degrees):
        rows = slice(start, start := start + len(one.positions))
        if combiner == "ht":  # as `error_draws` has it, without a list per draw
            draws_K = one.weights / one.shares * sums_R[rows]
            error = float(standard_error(torch.from_numpy(draws_K), one))
            yield float(one.shares @ draws_K), error, half_width(error, float(freedom))
            continue
        log_p = [row[mask] for row, mask in zip(tokens_RL[rows], hidden_RL[rows])]
        draws = error_draws(one, tokens_RL.shape[1], combiner, log_p)
        if draws is None:
            continue
        weights = token_weights(one, tokens_RL.shape[1], combiner)
        error = float(standard_error(torch.from_numpy(draws), one))
        yield float(sum(w @ x for w, x in zip(weights, log_p))), error, half_width(error, float(freedom))


def served(design: str, combiner: str, num_draws: int, length: int) -> bool:
    """Whether the design and the combiner take so many draws."""
    unit = DESIGNS[design].draws_per_unit
    if unit == 0:
        return num_draws == 1 and combiner == "ht" and (design != "all_subsets" or length <= 12)
    try:
        check_combiner(combiner, design, num_draws)
    except UserError:
        return False
    return num_draws % unit == 0


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=(__doc__ or "").split("\n")[0])
    made.add_argument("--quick", action="store_true", help="few plans and cells: checks that it runs, no figures")
    made.add_argument("--designs", nargs="+", choices=[*DESIGNS], default=[*DESIGNS], metavar="DESIGN")
    made.add_argument("--combiners", nargs="+", choices=[*COMBINERS], default=[*COMBINERS], metavar="COMBINER")
    made.add_argument("--num_draws", type=int, nargs="+", default=NUM_DRAWS)
    made.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="scored tokens of an answer")
    made.add_argument("--answers", type=int, default=4)
    made.add_argument("--plans", type=int, default=500, help="plans per answer")
    made.add_argument("--output_dir", type=Path, help="folder for coverage.md")
    args = made.parse_args(argv)
    if args.quick:
        args.plans, args.answers, args.num_draws, args.lengths = 20, 1, [4], [12]
    return args


def measure(args: argparse.Namespace) -> list[Cell]:
    """Every cell, design by design."""
    answers = {length: cases(length, args.answers) for length in args.lengths}
    found = []
    for design in args.designs:
        started = time.process_time()
        for combiner in args.combiners:
            found += [
                cell(design, combiner, length, count, answers[length], args.plans)
                for length in args.lengths
                for count in args.num_draws
                if served(design, combiner, count, length)
            ]
        progress(f"{design}: {time.process_time() - started:.0f} s CPU")
    return found


def markdown(cells: Sequence[Cell], counts: Sequence[int]) -> str:
    """One row per design, combiner and length, one column per number of draws."""
    lines = ["| design | combiner | tokens | " + " | ".join(f"{count} draws" for count in counts) + " |"]
    lines.append("|" + "---|" * (3 + len(counts)))
    for design, combiner, length in dict.fromkeys((one.design, one.combiner, one.length) for one in cells):
        by_count = {one.num_draws: one for one in cells if one[:3] == (design, combiner, length)}
        texts = [by_count[count].text() if count in by_count else "" for count in counts]
        lines.append(f"| {design} | {combiner} | {length} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, write; returns what the last line shows."""
    cells = measure(args)
    table = markdown(cells, args.num_draws)
    print(f"coverage of B / r; reported over true error of B / r: {args.answers} answers, {args.plans} plans each\n")
    print(table)
    if args.output_dir:
        args.output_dir.mkdir(parents=True, exist_ok=True)
        write_text(args.output_dir / "coverage.md", table)
    measured = [one for one in cells if one.coverage]
    wrong = [f"{one.design} {one.combiner} L={one.length} n={one.num_draws}" for one in measured if not one.holds]
    return {
        "cells": len(cells),
        "measured": len(measured),
        "not_known": sum(one.state == "not known" for one in cells),
        "exact": sum(one.state == "exact" for one in cells),
        "outside": wrong,
        "plans": args.plans,
        "quick": args.quick,
        "machine": machine(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    started = time.process_time()
    torch.set_num_threads(1)
    report = run(arguments(argv))
    print(json.dumps({**report, "cpu_seconds": time.process_time() - started}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
