"""A judge that rates each answer by itself: the higher score wins."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unveil.errors import UserError, name_rows
from unveil.judging.judge import Verdict
from unveil.judging.tie_margin import check_tie_margin, higher_wins


@dataclass(frozen=True)
class RatingJudge:
    """Compares the scores of two answers; symmetric, since each answer is scored alone.

    score: texts -> one finite number each, higher is better. tie_margin: scores that differ by at most this much tie.
    reads: what a text is, the "answer" or the "prompt_and_answer" (joined by `separator`).
    """

    name: str
    score: Callable[[list[str]], np.ndarray]
    tie_margin: float = 0.0
    reads: Literal["answer", "prompt_and_answer"] = "answer"
    separator: str = ""

    def __post_init__(self) -> None:
        check_tie_margin(self.name, self.tie_margin)

    @property
    def symmetric(self) -> bool:
        """True: exchanging the answers exchanges the scores."""
        return True

    def compare(self, prompts: Sequence[str], answers_a: Sequence[str], answers_b: Sequence[str]) -> list[Verdict]:
        """One verdict per prompt. Raises UserError when a score is missing or not finite."""
        scores_a, scores_b = self.rate(prompts, answers_a), self.rate(prompts, answers_b)
        pairs = zip(scores_a.tolist(), scores_b.tolist(), strict=True)
        return [higher_wins(a, b, self.tie_margin) for a, b in pairs]

    def rate(self, prompts: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """The score of every answer, float64 [N]."""
        texts = list(answers)
        if self.reads == "prompt_and_answer":
            texts = [f"{prompt}{self.separator}{answer}" for prompt, answer in zip(prompts, answers, strict=True)]
        scores = np.asarray(self.score(texts), dtype=np.float64)
        if scores.shape != (len(texts),):
            raise UserError(f"judge {self.name}: scores of shape {scores.shape} for {len(texts)} texts; give one each")
        bad = np.flatnonzero(~np.isfinite(scores)).tolist()
        if bad:
            raise UserError(f"judge {self.name}: the score of row {name_rows(bad)} is not finite; mend the scorer")
        return scores
