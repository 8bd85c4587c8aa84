"""Ctrl-C and SIGTERM during training: the step is finished, a checkpoint saved, and how to go on is said."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from unveil.training.checkpoint import last_checkpoint_in
from unveil.training.resuming import missing_states
from unveil.training.surrogate_trainer import SurrogateTrainer

# A launcher passes on to its processes what the terminal has sent them already: within this time it is one signal.
ONE_SIGNAL = 0.5


class Interrupted(KeyboardInterrupt):
    """The run was stopped; the message says what is kept and how to go on. `code` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class StopWhenAsked(TrainerCallback):
    """A context in which the first signal stops a run after a step, with a checkpoint, and a second Ctrl-C at once."""

    def __init__(self, trainer: SurrogateTrainer) -> None:
        self.trainer = trainer
        self.signal: int | None = None
        self._asked_at = 0.0
        self._saving = self._agreed = False
        self._before: dict[int, Any] = {}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """From here on there are steps to finish."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as for a job in the background
                self._before[number] = signal.signal(number, self._ask)

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._asked_at = number, now
            if self.trainer.args.process_index == 0:
                text = "\nunveil: stopping after this step, with a checkpoint; Ctrl-C again stops at once\n"
                with contextlib.suppress(OSError):
                    os.write(2, text.encode())  # a print may be under way
        elif number == signal.SIGINT and now - self._asked_at > ONE_SIGNAL:
            raise KeyboardInterrupt

    def on_step_end(self, args, state, control, **kwargs) -> None:
        asked = self.signal is not None
        self._agreed = any(self.trainer.gathered([asked])) if args.world_size > 1 else asked
        # The end of an epoch may evaluate and save too, and a run that goes on would leave that out.
        if self._agreed and state.epoch != int(state.epoch):
            self._saving = control.should_save = True

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        if self._agreed:
            self._saving = control.should_save = True

    def on_save(self, args, state, control, **kwargs) -> None:
        if self._saving:
            raise KeyboardInterrupt

    @property
    def code(self) -> int:
        """Exit code, as shells have it."""
        return 128 + (self.signal or signal.SIGINT)


def what_is_kept(trainer: SurrogateTrainer, started_from: str | None) -> str:
    """Return what an interrupted run has left and how to go on, in one line."""
    output = Path(str(trainer.args.output_dir))
    last = last_checkpoint_in(output)
    if last is None:
        again = "with the same --resume_from_checkpoint" if started_from else "to start anew"
        rest = " (and --overwrite)" if output.is_dir() and any(output.iterdir()) else ""
        return f"interrupted before the first checkpoint; give the same command again{rest} {again}"
    name = last.name
    step = name.rpartition("-")[2]
    if missing_states(last, trainer.args):
        return (
            f"interrupted; {name} holds the weights after step {step} alone, so this run cannot go on, but a new one "
            f"can start from it: --model_name_or_path {last}"
        )
    return (
        f"interrupted; {name} holds the state after step {step}: the same command with --resume_from_checkpoint True "
        "goes on from there"
    )
