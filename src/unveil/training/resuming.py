"""A resumed run is the same run: what it may be is checked before anything is computed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput

from unveil.errors import UserError, warn_user
from unveil.secrets import hub_token_left_out
from unveil.training.checkpoint import StagedCheckpoints, checkpoint_to_resume
from unveil.training.draw_config import DrawConfig
from unveil.training.run_identity import (
    Identity,
    differences,
    identity_of,
    read_identity,
    start_of,
    write_identity,
)

# What reading a damaged or foreign file of tensors may raise, down to KeyError for a tensor that is not there.
_UNREADABLE = (SafetensorError, RuntimeError, ValueError, KeyError, TypeError, EOFError, OSError, AttributeError)
_REMEDY = (
    "give the run's own flags and data, start anew in another --output_dir, or give --resume_with_changes True to go "
    "on all the same"
)


class ResumedRuns(StagedCheckpoints, Trainer):
    """Mixin of `transformers.Trainer` whose checkpoints know their run and serve no other."""

    args: DrawConfig
    policy: nn.Module
    kind = "surrogate"
    resumed_from: str | None = None
    """The checkpoint that the run goes on from."""
    _identity: Identity | None = None
    _start: str | None = None

    def gathered(self, records: list[Any]) -> list[Any]:
        """The records of all ranks, in rank order, on every rank."""
        raise NotImplementedError

    def own_identity(self) -> Identity:
        """What a subclass's run depends on beside arguments, model and training rows."""
        return {}

    def before_training(self) -> None:
        """What a subclass computes before the first step, once the run is known to be allowed."""

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train; from a checkpoint, only if it is of this run.

        Raises:
            UserError: no such checkpoint, one of another run, or one without all that a run goes on from.
        """
        checkpoint = checkpoint_to_resume(str(self.args.output_dir), resume_from_checkpoint)
        if self.args.process_index == 0:
            # Now and not at the first checkpoint: who is told to stop may have no time left to read all rows.
            self._identity = self._make_identity()
        if checkpoint is not None:
            self._require_same_run(Path(checkpoint))
        self.resumed_from = checkpoint
        self.before_training()
        outcome: Any = super().train(checkpoint, *args, **kwargs)
        return outcome._replace(training_loss=outcome.metrics.get("train_loss", outcome.training_loss))

    @property
    def identity(self) -> Identity:
        """What makes this run (main process)."""
        if self._identity is None:
            self._identity = self._make_identity()
        return self._identity

    def _make_identity(self) -> Identity:
        if self._start is None:  # the first time, when nothing was trained yet
            self._start = start_of(self.policy)
        return identity_of(self, self._start)  # type: ignore[arg-type]

    def add_to_checkpoint(self, folder: Path) -> None:
        write_identity(folder, self.identity)

    def _require_same_run(self, checkpoint: Path) -> None:
        """On every process alike, so that none waits for one that has stopped."""
        found: list[tuple[str | None, list[str]]] = []
        if self.args.process_index == 0:
            try:
                found.append((None, self._changes(checkpoint)))
            except UserError as error:
                found.append((str(error), []))
        for error, told in self.gathered(found):
            if error:
                raise UserError(error)
            if told and self.args.process_index == 0:
                warn_user(f"--resume_from_checkpoint {checkpoint}: goes on with {', '.join(told)}")

    def _changes(self, checkpoint: Path) -> list[str]:
        """What differs from the checkpoint's run and may.

        Raises:
            UserError: what differs and may not.
        """
        flag, forced = f"--resume_from_checkpoint {checkpoint}", self.args.resume_with_changes
        _require_readable_state(checkpoint)
        there = read_identity(checkpoint)
        if there is None:
            if forced:
                return ["a checkpoint that does not say which run it is of"]
            raise UserError(
                f"{flag}: does not say which run it is of (no run_identity.json), so that nothing tells whether data "
                "and arguments are its own; give --resume_with_changes True to go on all the same"
            )
        other, told, never = differences(there, self.identity)
        if never:
            raise UserError(
                f"{flag}: is of another model: {', '.join(other)}; give the run's own flags, or start anew in another "
                "--output_dir"
            )
        lost = missing_states(checkpoint, self.args)
        if other and not forced:
            raise UserError(f"{flag}: is of another run: {', '.join(other)}; {_REMEDY}")
        if lost and not forced:
            raise UserError(
                f"{flag}: holds no {', no '.join(lost)} ({_why_missing(there)}), and a run cannot go on without; give "
                "the checkpoint as --model_name_or_path to start a new run from its weights, or --resume_with_changes "
                "True to go on with a fresh optimizer"
            )
        return [*other, *told, *(f"no {name}" for name in lost)]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        with _told_where_unreadable(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _told_where_unreadable(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _told_where_unreadable(checkpoint):
            super()._load_rng_state(checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with hub_token_left_out(self.args):  # training_args.bin
            super()._save(output_dir, state_dict)


@contextlib.contextmanager
def _told_where_unreadable(checkpoint: str | None) -> Iterator[None]:
    """Turn what a library says of a file that it cannot use into a line that names the checkpoint."""
    try:
        yield
    except UserError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"--resume_from_checkpoint {checkpoint}: cannot be loaded ({type(error).__name__}: {reason}); resume from "
            "another checkpoint"
        ) from error


def _require_readable_state(checkpoint: Path) -> None:
    """Refuse a `trainer_state.json` that transformers would stumble over."""
    file = checkpoint / TRAINER_STATE_NAME
    try:
        step = TrainerState.load_from_json(str(file)).global_step
        if not isinstance(step, int):
            raise ValueError(f"global_step is {step!r}")
    except (*_UNREADABLE, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{file}: cannot be read ({reason}); resume from another checkpoint") from error


def missing_states(checkpoint: Path, args: DrawConfig) -> list[str]:
    """Return the states that a run needs to go on and the checkpoint does not hold: optimizer, schedule, ..."""
    if args.deepspeed:
        return [] if any(checkpoint.glob("global_step*")) else ["optimizer state"]
    found = []
    if not any(any(checkpoint.glob(name)) for name in ("optimizer.pt", "optimizer.bin", "optimizer_*", "rank*-of-*")):
        found.append("optimizer.pt")
    if not (checkpoint / "scheduler.pt").is_file():
        found.append("scheduler.pt")
    if not any(checkpoint.glob("rng_state*.pth")):
        found.append("rng_state.pth")
    if args.fp16 and not (checkpoint / "scaler.pt").is_file() and not args.use_cpu:
        found.append("scaler.pt")
    return found


def _why_missing(identity: Identity) -> str:
    return "it was saved with --save_only_model" if identity.get("save_only_model") else "removed, or never written"
