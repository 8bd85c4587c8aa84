"""Warnings about a run that is going wrong, each told once."""

from collections.abc import Sequence

from unveil.errors import warn_user
from unveil.objectives import SFT, ExpectationOutside, Jackknife, Objective, WeightedSum
from unveil.training.config import PreferenceConfig
from unveil.training.preference_metrics import kto_term
from unveil.training.scored import Scored

FALLING_STEPS = 10


def remedies_of_falling(objective: Objective, args: PreferenceConfig) -> list[str]:
    """Flags that hold the likelihood up: those that the run does not use yet, and more of those that it does."""
    sft = _sft_weight(objective)
    found = [
        "--replay_weight (with --replay_dataset_name)"
        if not args.replay_weight
        else f"a --replay_weight above {args.replay_weight:g}",
        "--sft_weight" if not sft else f"a larger weight of its SFT term (here {sft:g})",
    ]
    kto = kto_term(objective)
    if kto is not None and kto.baseline == "batch":
        found.append("--baseline kl")
    return sorted(found, key=lambda flag: not flag.startswith("--"))


def _sft_weight(objective: Objective) -> float:
    """The weight of liked answers' -ELBO per token in an objective, 0 if it has none."""
    if isinstance(objective, ExpectationOutside | Jackknife):
        return _sft_weight(objective.objective)
    terms = objective.terms if isinstance(objective, WeightedSum) else ((1.0, objective),)
    return sum(factor for factor, term in terms if isinstance(term, SFT))


class Health:
    """Looks at the answers of every optimizer batch."""

    def __init__(self, allow_one_label: bool, remedies: Sequence[str]) -> None:
        self.allow_one_label, self.remedies = allow_one_label, remedies
        self._falling_steps = 0
        self._told: set[str] = set()

    def look(self, records: Sequence[Scored], step: int, with_reference: bool) -> None:
        """Warn when a batch holds one kind of answers only, and when both kinds keep losing likelihood."""
        kinds = {r.best for r in records}
        if len(kinds) == 1 and not self.allow_one_label:
            self._tell(
                "label",
                f"step {step}: all {len(records)} answers of the batch have the label {kinds.pop()}; its loss cannot "
                "saturate, use larger batches (told once)",
            )
        if not with_reference:
            return
        up, down = [r.margin for r in records if r.best], [r.margin for r in records if not r.best]
        falling = bool(up and down) and sum(up) / len(up) < 0 and sum(down) / len(down) < 0
        self._falling_steps = self._falling_steps + 1 if falling else 0
        if self._falling_steps == FALLING_STEPS:
            self._tell(
                "falling",
                f"step {step}: desirable and undesirable answers have both lost likelihood for {FALLING_STEPS} steps "
                f"(likelihood displacement); {', '.join(self.remedies[:-1])} or {self.remedies[-1]} holds it up",
            )

    def _tell(self, topic: str, message: str) -> None:
        if topic not in self._told:
            self._told.add(topic)
            warn_user(message)
