"""What a run found: the numbers of `run.json`, and the evidence that the figures are drawn from."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from unveil.demo.answers import Answers
from unveil.demo.heldout import NelboChange
from unveil.judging import Comparison, WinRate


@dataclass(frozen=True)
class Results:
    """The numbers of one run.

    adjusted_win_rate, interval: aligned against base on the held-out prompts, wins + half ties, 95 % over prompts.
    null_win_rate, null_interval: base against itself with another sampling seed. nelbo_change, nelbo_change_error:
    relative change of the NELBO per token on text of a domain without feedback (a fraction), and its standard error.
    length_ratio: tokens per answer, aligned over base. reward_up, reward_down: mean margin r = B_aligned - B_base of
    held-out texts that people liked and disliked, nats per answer (not multiplied by beta). auc: how often a liked
    text has the larger margin. nelbo: every held-out set. seconds: wall time of the whole run.
    p_value: exact sign test of the win rate. length_controlled_win_rate: what it would be at equal lengths (in words).
    minimum_detectable_difference: of the win rate from 0.5, with so many prompts and power 0.8.
    """

    adjusted_win_rate: float
    interval: tuple[float, float]
    null_win_rate: float
    null_interval: tuple[float, float]
    nelbo_change: float
    nelbo_change_error: float
    length_ratio: float
    reward_up: float
    reward_down: float
    auc: float
    seconds: float
    wins: int
    ties: int
    losses: int
    n: int
    mean_length: dict[str, float]
    distinct_bigrams: dict[str, float]
    nelbo: dict[str, NelboChange]
    p_value: float | None = None
    length_controlled_win_rate: float | None = None
    length_controlled_interval: tuple[float, float] | None = None
    minimum_detectable_difference: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"interval": list(self.interval), "null_interval": list(self.null_interval)}


@dataclass(frozen=True)
class Judged:
    """A comparison of two sets of answers: outcomes for the first (1, 1/2, 0) and the ratings of both, `[N]`."""

    comparison: Comparison
    outcomes: NDArray[np.float64]
    ratings: NDArray[np.float64]
    other_ratings: NDArray[np.float64]

    @property
    def win_rate(self) -> WinRate:
        """Wins + half ties of the first, with its interval."""
        return self.comparison.win_rate


@dataclass(frozen=True)
class Evidence:
    """What the numbers were computed from; `margins` and `thumbs` belong to the held-out film texts with a thumb."""

    prompts: list[str]
    base: Answers
    aligned: Answers
    against_base: Judged
    against_itself: Judged
    margins: NDArray[np.float64]
    thumbs: NDArray[np.bool_]
    history: list[dict[str, float]]
    thumbs_up: int
    thumbs_down: int
    warnings: list[str]


def summarise(evidence: Evidence, nelbo: dict[str, NelboChange], seconds: float) -> Results:
    """The numbers of a run from its evidence."""
    found, null = evidence.against_base.win_rate, evidence.against_itself.win_rate
    control = evidence.against_base.comparison.length_controlled
    margins, thumbs = evidence.margins, evidence.thumbs
    return Results(
        adjusted_win_rate=found.rate,
        interval=(found.low, found.high),
        null_win_rate=null.rate,
        null_interval=(null.low, null.high),
        nelbo_change=nelbo["product"].change,
        nelbo_change_error=nelbo["product"].standard_error,
        length_ratio=evidence.aligned.mean_length / max(evidence.base.mean_length, 1e-9),
        reward_up=float(margins[thumbs].mean()),
        reward_down=float(margins[~thumbs].mean()),
        auc=float(roc_auc_score(thumbs, margins)),
        seconds=seconds,
        wins=found.wins,
        ties=found.ties,
        losses=found.losses,
        n=found.n,
        mean_length={"base": evidence.base.mean_length, "aligned": evidence.aligned.mean_length},
        distinct_bigrams={"base": evidence.base.distinct_bigrams, "aligned": evidence.aligned.distinct_bigrams},
        nelbo=nelbo,
        p_value=evidence.against_base.comparison.sign.p_value,
        length_controlled_win_rate=control.rate,
        length_controlled_interval=(control.low, control.high),
        minimum_detectable_difference=evidence.against_base.comparison.minimum_detectable_difference,
    )
