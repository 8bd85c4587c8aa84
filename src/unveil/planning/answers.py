"""The answers of a data set as numbers: how long, and how many of their tokens each draw hides."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from unveil.draws import Plan
from unveil.planning.flops import Work

MOST_DRAWN = 20_000


@dataclass(frozen=True)
class Answers:
    """N answers in the order of the data.

    `tokens` T (prompt, answer, tail) and `scored` L are int64 `[N]`; `example_ids` name the answers and seed their
    draws; `groups` `[N]` is the dataset row (prompt) of each, counted from 0.
    """

    tokens: np.ndarray
    scored: np.ndarray
    example_ids: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset) -> "Answers":
        """Of tokenised thumbs, or of prompts with `responses`."""
        if "responses" in dataset.column_names:
            found = [(one, number) for number, members in enumerate(dataset["responses"]) for one in members]
        else:
            names = ("prompt_ids", "completion_ids", "tail_ids", "example_id")
            found = [({name: row[name] for name in names}, number) for number, row in enumerate(dataset)]  # type: ignore[call-overload]
        return cls(
            np.array([len(a["prompt_ids"]) + len(a["completion_ids"]) + len(a["tail_ids"] or ()) for a, _ in found]),
            np.array([len(a["completion_ids"]) for a, _ in found]),
            np.array([a["example_id"] for a, _ in found], dtype=np.int64),
            np.array([number for _, number in found], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def rows(self) -> int:
        """Rows of the data set: thumbs, or prompts with their candidates."""
        return int(self.groups[-1]) + 1 if len(self) else 0

    def some(self, most: int = MOST_DRAWN, seed: int = 0) -> "Answers":
        """At most about so many answers, as whole rows chosen at random; all of them if there are fewer."""
        if len(self) <= most:
            return self
        count = max(1, most * self.rows // len(self))
        chosen = np.sort(np.random.default_rng(seed).choice(self.rows, count, replace=False))
        kept = np.isin(self.groups, chosen)
        groups = np.searchsorted(chosen, self.groups[kept])
        return Answers(self.tokens[kept], self.scored[kept], self.example_ids[kept], groups)


@dataclass(frozen=True)
class Rows:
    """R rows (answer, draw): `tokens` and `hidden` are int64 `[R]`, `answers` `[R]` the number of the answer."""

    tokens: np.ndarray
    hidden: np.ndarray
    answers: np.ndarray

    @classmethod
    def drawn(cls, answers: Answers, draw: Callable[[int, int], Plan]) -> "Rows":
        """Rows of the run's own plans; `draw(example_id, scored tokens)` makes one."""
        plans = [draw(int(name), int(length)) for name, length in zip(answers.example_ids, answers.scored)]
        owner = np.repeat(np.arange(len(answers)), [len(plan.positions) for plan in plans])
        hidden = np.array([len(places) for plan in plans for places in plan.positions], dtype=np.int64)
        return cls(answers.tokens[owner], hidden, owner)

    @property
    def work(self) -> Work:
        """Of one forward pass over all rows."""
        return work_of(self.tokens, self.hidden)


def work_of(tokens: np.ndarray, hidden: np.ndarray) -> Work:
    """Sums of T, T^2 and l."""
    wide = tokens.astype(np.float64)
    return Work(float(wide.sum()), float((wide**2).sum()), float(hidden.sum()))


def quantiles(numbers: np.ndarray) -> dict[str, float]:
    """Mean, median, 95th percentile, largest, sum."""
    return {
        "mean": float(numbers.mean()),
        "p50": float(np.quantile(numbers, 0.5)),
        "p95": float(np.quantile(numbers, 0.95)),
        "max": float(numbers.max()),
        "total": float(numbers.sum()),
    }
