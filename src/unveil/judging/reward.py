"""A judge that is a reward function, with the signature that TRL's trainers use."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unveil.errors import UserError, name_rows
from unveil.judging.columns import rows_of
from unveil.judging.judge import Columns, Verdict
from unveil.judging.tie_margin import check_tie_margin, higher_wins

RewardFunction = Callable[..., Sequence[float | None]]


@dataclass(frozen=True)
class RewardJudge:
    """The answer with the higher reward wins; symmetric, since each is rewarded alone.

    function: called as `function(prompts=..., completions=..., **columns)`, gives one number per completion, or None
    where it has no opinion (TRL's meaning); a pair with a None is unparsed. tie_margin: rewards that differ by at most
    this much tie.
    """

    name: str
    function: RewardFunction
    tie_margin: float = 0.0
    reads_columns: bool = True

    def __post_init__(self) -> None:
        check_tie_margin(self.name, self.tie_margin)

    @property
    def symmetric(self) -> bool:
        """True: exchanging the answers exchanges the rewards."""
        return True

    def compare(
        self,
        prompts: Sequence[str],
        answers_a: Sequence[str],
        answers_b: Sequence[str],
        columns: Columns | None = None,
    ) -> list[Verdict]:
        """One verdict per prompt. Raises UserError when a reward is missing or not finite."""
        rewards_a = self.rewards(prompts, answers_a, columns)
        rewards_b = self.rewards(prompts, answers_b, columns)
        return [self._verdict(a, b) for a, b in zip(rewards_a, rewards_b, strict=True)]

    def rewards(
        self, prompts: Sequence[str], answers: Sequence[str], columns: Columns | None = None
    ) -> list[float | None]:
        """The reward of every answer, None where the function gives none."""
        rows_of(columns, len(prompts))
        more: dict[str, Any] = {name: list(values) for name, values in (columns or {}).items()}
        more = {name: values for name, values in more.items() if name not in ("prompts", "completions")}
        try:
            given = self.function(prompts=list(prompts), completions=list(answers), **more)
            rewards = [None if reward is None else float(reward) for reward in given]
        except UserError:
            raise
        except Exception as error:  # code of the user
            told = f"{type(error).__name__} ({' '.join(str(error).split())})"
            raise UserError(f"judge {self.name}: the reward function raised {told}; mend it") from error
        if len(rewards) != len(prompts):
            raise UserError(f"judge {self.name}: gave {len(rewards)} rewards for {len(prompts)} answers; give one each")
        bad = [place for place, reward in enumerate(rewards) if reward is not None and not math.isfinite(reward)]
        if bad:
            raise UserError(f"judge {self.name}: the reward of row {name_rows(bad)} is not finite; mend the function")
        return rewards

    def _verdict(self, a: float | None, b: float | None) -> Verdict:
        if a is None or b is None:
            return Verdict("tie", f"no reward for {'either' if a is b else 'A' if a is None else 'B'}", parsed=False)
        return higher_wins(a, b, self.tie_margin)
