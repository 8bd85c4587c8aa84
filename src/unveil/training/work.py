"""What a run has computed so far: tokens and forward passes, kept in checkpoints."""

from typing import Any, NamedTuple

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


class Work(NamedTuple):
    """tokens: of the rows that were back-propagated. forwards: rows (an answer under one draw) through a network.
    flops: floating-point operations of all passes, as far as transformers has not asked for them."""

    tokens: int = 0
    forwards: int = 0
    flops: float = 0.0

    def plus(self, tokens: int = 0, forwards: int = 0, flops: float = 0.0) -> "Work":
        """More of it."""
        return Work(self.tokens + tokens, self.forwards + forwards, self.flops + flops)


class ForwardCount(TrainerCallback, ExportableState):
    """Forward passes since the run began, over resumes; the number of tokens has a place of its own in the state."""

    def __init__(self) -> None:
        self.total = 0

    def state(self) -> dict:
        """For `trainer_state.json`."""
        return {"args": {}, "attributes": {"total": self.total}}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """After a resume the count is that of the checkpoint, which transformers restores on request only."""
        stored: Any = state.stateful_callbacks or {}
        known = stored.get(type(self).__name__) if state.global_step else None
        self.total = known["attributes"]["total"] if known else 0
