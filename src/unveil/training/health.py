"""Warnings about a run that is going wrong, each told once."""

from collections.abc import Sequence

from unveil.errors import warn_user
from unveil.training.scored import Scored

FALLING_STEPS = 10


class Health:
    """Looks at the answers of every optimizer batch."""

    def __init__(self, allow_one_label: bool) -> None:
        self.allow_one_label = allow_one_label
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
                "(likelihood displacement); --replay_weight, --sft_weight or --baseline kl hold it up",
            )

    def _tell(self, topic: str, message: str) -> None:
        if topic not in self._told:
            self._told.add(topic)
            warn_user(message)
