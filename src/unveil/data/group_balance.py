"""How many prompts, candidates and ties there are in pairs or lists, for the start of a run."""

from collections import Counter
from dataclasses import dataclass

from datasets import Dataset

from unveil.errors import UserError


@dataclass(frozen=True)
class GroupBalance:
    """Counts; mean scored lengths in tokens of the best and of the other candidates, None before tokenising."""

    n_prompts: int
    n_candidates: int
    smallest: int
    largest: int
    n_comparisons: int
    """Two candidates of a prompt, one of them better."""
    n_ties: int
    """Two candidates of a prompt, equally good."""
    mean_length_best: float | None = None
    mean_length_others: float | None = None

    def describe(self) -> str:
        """One line: `749 pairs, ...` or `120 lists of 2 to 8 candidates (640 in all), ...`."""
        lengths = ""
        if self.mean_length_best is not None and self.mean_length_others is not None:
            lengths = (
                f", mean length {self.mean_length_best:.1f} of the best, {self.mean_length_others:.1f} of the rest"
            )
        ties = f", {self.n_ties} ties" if self.n_ties else ""
        if self.largest == 2:
            return f"{self.n_prompts} pairs{ties}{lengths}"
        sizes = f"{self.smallest} to {self.largest}" if self.smallest < self.largest else f"{self.largest}"
        return (
            f"{self.n_prompts} lists of {sizes} candidates ({self.n_candidates} in all), "
            f"{self.n_comparisons} comparisons{ties}{lengths}"
        )


def group_balance(dataset: Dataset) -> GroupBalance:
    """Balance of a data set of groups, before or after tokenising. Raises `UserError` for other data."""
    if "relevance" not in dataset.column_names or len(dataset) == 0:
        raise UserError("the data set has no groups; make them with unveil.data.pair_rows or list_rows")
    relevance: list[list[float]] = dataset.with_format(None)["relevance"][:]
    sizes = [len(values) for values in relevance]
    comparable = sum(size * (size - 1) // 2 for size in sizes)
    ties = sum(count * (count - 1) // 2 for values in relevance for count in Counter(values).values())
    best, others = _lengths(dataset, relevance)
    return GroupBalance(
        n_prompts=len(sizes),
        n_candidates=sum(sizes),
        smallest=min(sizes),
        largest=max(sizes),
        n_comparisons=comparable - ties,
        n_ties=ties,
        mean_length_best=sum(best) / len(best) if best else None,
        mean_length_others=sum(others) / len(others) if others else None,
    )


def _lengths(dataset: Dataset, relevance: list[list[float]]) -> tuple[list[int], list[int]]:
    """Scored lengths of the candidates with the best relevance of their group, and of the others."""
    best: list[int] = []
    others: list[int] = []
    if "responses" in dataset.column_names:
        for values, responses in zip(relevance, dataset.with_format(None)["responses"]):
            for value, response in zip(values, responses):
                (best if value == max(values) else others).append(len(response["completion_ids"]))
    return best, others
