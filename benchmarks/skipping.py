"""Does skipping rows of small weight pay? The noise that `--row_budget` adds to a step's gradient, and what it saves.

    python -m benchmarks.skipping

The shipped base and a policy some KTO steps away from it (`benchmarks.gradient_error`), optimizer batches of held-out
thumbs of the demo's reviews, the default draws. Rows (answer, draw) are kept independently with probability p_r and
count w_r / p_r, so what skipping adds to the gradient's variance is exactly

    sum over rows (1 / p_r - 1) |w_r grad S_r|^2

and is computed from the norm of every row's gradient (all weights of the model), not estimated. It is given over the
noise that the step has anyway (which answers are in the batch, and their draws): m times the sample variance of the
gradients of its m answers. A step costs one pass without and one with graph, 1 + 3 units; skipping saves of the 3.
"noise x cost" below 1 means that skipping buys more steps than it spoils: that is the efficiency of a step that only
averages noise. Rules: `--row_budget`'s; the same with |w| alone; every row alike; and the best there is, with p in
proportion to the row's true gradient over the root of its cost, which nobody knows in advance.

Medians and ranges over batches; the last line printed is one JSON object.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.gradient_error import Pair, reviews, trained_pair
from benchmarks.measuring import Spread, machine, parser, progress, table
from benchmarks.our_step import Schedule, objective_weights, prepare, values
from benchmarks.pair_training import shipped_base
from unveil.likelihood import row_values
from unveil.objectives import kto
from unveil.training.row_skipping import keep_probabilities

BUDGETS = (0.75, 0.5, 0.25)
BETAS = (0.1, 0.5)
RULES = ("--row_budget", "|w| alone", "every row alike", "best possible")
ONE_ROW = 1
FORWARD, FORWARD_AND_BACKWARD = 1.0, 3.0


@dataclass
class Rows:
    """Rows of one optimizer batch at one beta: `[rows]` weights, tokens, hidden tokens and squared norms of their
    weighted gradients; `noise` is the step's own."""

    weight: np.ndarray
    tokens: np.ndarray
    hidden: np.ndarray
    square: np.ndarray
    noise: float

    def importance(self, rule: str) -> np.ndarray:
        """What the chance to be kept is in proportion to."""
        if rule == "every row alike":
            return np.ones_like(self.weight)
        size = {
            "--row_budget": np.abs(self.weight) * np.sqrt(self.hidden),
            "|w| alone": np.abs(self.weight),
            "best possible": np.sqrt(self.square),
        }[rule]
        return size / np.sqrt(self.tokens)

    def skipped(self, rule: str, budget: float) -> tuple[float, float]:
        """Variance that skipping adds over the step's own noise, and the step's cost over that without skipping."""
        keep = keep_probabilities(self.importance(rule), self.tokens, budget)
        live = self.square > 0
        added = ((1 / keep[live] - 1) * self.square[live]).sum() / self.noise
        kept = (keep * self.tokens).sum() / self.tokens.sum()
        return float(added), float((FORWARD + FORWARD_AND_BACKWARD * kept) / (FORWARD + FORWARD_AND_BACKWARD))


def rows_of_batch(pair: Pair, batch_size: int, seed: int, num_draws: int, betas: Sequence[float]) -> list[Rows]:
    """One optimizer batch at every beta: a row's gradient is the same for all, only its weight is not."""
    batch = reviews("report", batch_size, shipped_base().tokenizer, seed)
    prepared = prepare(pair.policy, batch, Schedule(num_draws, "quadratic_tiling", ONE_ROW))
    policy, reference = (values(model, prepared) for model in (pair.policy, pair.base))
    weights = [objective_weights(prepared, policy, reference, kto(beta=beta))[1].numpy() for beta in betas]
    tokens, hidden = np.zeros(prepared.num_rows), np.zeros(prepared.num_rows)
    squares = [np.zeros(prepared.num_rows) for _ in betas]
    answers: list[dict[int, torch.Tensor]] = [{} for _ in betas]
    for packed in prepared.packed:
        row = int(packed.order[0])
        answer, draw = divmod(row, num_draws)
        tokens[row] = sum(packed.segment_lengths)
        hidden[row] = len(prepared.plans[answer].positions[draw])
        gradient = _gradient(pair, packed)
        for weight, square, sums in zip(weights, squares, answers):
            weighted = weight[row] * gradient
            square[row] = float(weighted.square().sum())
            sums[answer] = sums.get(answer, 0) + weighted
    own = [_noise(list(sums.values())) for sums in answers]
    return [Rows(weight, tokens, hidden, square, noise) for weight, square, noise in zip(weights, squares, own)]


def _noise(answers: Sequence[torch.Tensor]) -> float:
    """Variance of a step's gradient by which answers it has, from the gradients of its answers."""
    count, total = len(answers), sum(answers)
    squares = sum(float(gradient.square().sum()) for gradient in answers)
    return count / (count - 1) * (squares - float(total.square().sum()) / count)  # type: ignore[union-attr]


def _gradient(pair: Pair, packed: Any) -> torch.Tensor:
    """The gradient of one row's `S(M)`, all weights in one vector."""
    pair.policy.model.zero_grad()
    row_values(pair.policy, packed).sum().backward()
    return torch.cat([p.grad.flatten() for p in pair.policy.model.parameters() if p.grad is not None])


def measured(batches: Sequence[Rows], beta: float) -> list[dict[str, Any]]:
    """One row per rule and budget."""
    found = []
    for rule in RULES:
        for budget in BUDGETS:
            added, cost = zip(*(rows.skipped(rule, budget) for rows in batches))
            product = Spread.of([(1 + a) * c for a, c in zip(added, cost)])
            found.append(
                {
                    "beta": beta,
                    "rule": rule,
                    "budget": budget,
                    "added": Spread.of(added),
                    "cost": Spread.of(cost),
                    "noise_times_cost": product,
                }
            )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Train the policy, measure every batch, print the table."""
    made = parser("skipping", __doc__)
    made.add_argument("--steps", type=int, default=30, help="KTO steps of the policy")
    made.add_argument("--batches", type=int, default=6)
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--num_draws", type=int, default=4)
    args = made.parse_args(argv)
    if args.quick:
        args.steps, args.batches, args.batch_size, args.num_draws = 1, 2, 4, 2
    torch.set_num_threads(args.threads)
    pair = trained_pair(args.steps, args.batch_size, 2)
    measured_batches = []
    for seed in range(args.batches):
        measured_batches.append(rows_of_batch(pair, args.batch_size, seed, args.num_draws, BETAS))
        progress(f"batch {seed + 1}/{args.batches}")
    found = []
    for beta, batches in zip(BETAS, zip(*measured_batches)):
        spread = Spread.of([float(np.std(np.abs(b.weight)) / np.mean(np.abs(b.weight))) for b in batches])
        print(f"beta {beta}: |w| of the rows varies by {spread.text()} of its mean\n")
        found += measured(batches, beta)
    table(
        [
            "beta",
            "rule",
            "budget of second-pass tokens",
            "added variance / own noise",
            "cost of a step",
            "noise x cost",
        ],
        [
            [r["beta"], r["rule"], r["budget"], *(r[k].text() for k in ("added", "cost", "noise_times_cost"))]
            for r in found
        ],
    )
    best = min((r for r in found if r["rule"] == "--row_budget"), key=lambda r: r["noise_times_cost"].median)
    report = {
        "noise_times_cost": {
            f"beta {r['beta']}, budget {r['budget']}": r["noise_times_cost"].median
            for r in found
            if r["rule"] == "--row_budget"
        },
        "best": {"beta": best["beta"], "budget": best["budget"], "noise_times_cost": best["noise_times_cost"]},
        "quick": args.quick,
        "machine": machine(),
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
