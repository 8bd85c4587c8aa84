"""What a stateful objective (BCO, beta-DPO) remembers between steps: kept in checkpoints by transformers."""

from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from unveil.objectives import Feedback, Likelihoods, Objective


class ObjectiveState(TrainerCallback, ExportableState):
    """Carries the state; `updated` once per optimizer batch."""

    def __init__(self, values: list[float] | None = None) -> None:
        self.values = values or []

    def updated(self, objective: Objective, likelihoods: Likelihoods, feedback: Feedback) -> Objective:
        """The objective of this batch, after the state has seen it."""
        if self.values:
            self.values = list(objective.update(tuple(self.values), likelihoods, feedback))
        return self.current(objective)

    def current(self, objective: Objective) -> Objective:
        """The objective under the state as it is."""
        return objective.given(tuple(self.values)) if self.values else objective

    def state(self) -> dict:
        """For `trainer_state.json`."""
        return {"args": {}, "attributes": {"values": self.values}}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """After a resume the values are those of the checkpoint, which transformers restores on request only."""
        stored: Any = state.stateful_callbacks
        if state.global_step and stored and type(self).__name__ in stored:
            self.values = stored[type(self).__name__]["attributes"]["values"]
