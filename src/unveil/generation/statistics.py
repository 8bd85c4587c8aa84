"""What answers cost: forward passes, tokens that went through the network, tokens committed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Statistics:
    """Of one call of `sample`, or of several added up.

    answers: how many. answer_tokens: without end tokens and what follows them. committed: canvas tokens committed.
    forwards: calls of the network. answer_forwards: the same counted once for every answer in the batch.
    token_forwards: tokens that the network computed. Guidance makes two forwards of a step.
    """

    answers: int = 0
    answer_tokens: int = 0
    committed: int = 0
    forwards: int = 0
    answer_forwards: int = 0
    token_forwards: int = 0

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(*(a + b for a, b in zip(self._values(), other._values(), strict=True)))

    def _values(self) -> tuple[int, ...]:
        return (
            self.answers, self.answer_tokens, self.committed, self.forwards, self.answer_forwards, self.token_forwards,
        )  # fmt: skip

    @property
    def forwards_per_answer(self) -> float:
        """Forward passes that an answer took part in, on average."""
        return self.answer_forwards / max(1, self.answers)

    @property
    def tokens_per_forward(self) -> float:
        """Tokens committed by one forward pass of one answer; 1 = one token at a time."""
        return self.committed / max(1, self.answer_forwards)

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.tokens_per_forward:.2f} tokens per forward, {self.forwards_per_answer:.1f} forwards per answer; "
            f"{self.forwards:,} forwards in all, of {self.token_forwards:,} tokens"
        )


class Tally:
    """Counts while sampling."""

    def __init__(self) -> None:
        self.forwards = self.token_forwards = self.answer_forwards = self.committed = 0

    def forward(self, rows: Sequence[int], counts: Iterable[int]) -> None:
        """One call of the network with `counts` tokens of each row."""
        self.forwards += 1
        self.answer_forwards += len(rows)
        self.token_forwards += sum(counts)

    def statistics(self, answers: Sequence[Sequence[int]]) -> Statistics:
        """The counts, with what came of them."""
        tokens = sum(map(len, answers))
        return Statistics(
            len(answers), tokens, self.committed, self.forwards, self.answer_forwards, self.token_forwards
        )
