"""What a run remembers over its sessions and transformers begins anew: wall time, summed loss, metrics to be logged.

Kept as `sessions.json` in every checkpoint, so that a run that was stopped anywhere logs what one that was not does.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from unveil.errors import UserError
from unveil.files import read_json, write_text

if TYPE_CHECKING:
    from unveil.training.logged_trainer import LoggedTrainer

FILE = "sessions.json"


class Sessions(TrainerCallback):
    """Carries a trainer's sums from one session to the next."""

    def __init__(self, trainer: "LoggedTrainer") -> None:
        self.trainer = trainer
        self.earlier = 0.0
        """Seconds of the sessions before this one, up to their checkpoints."""
        self.began = time.monotonic()
        self.first_step = 0
        """The step after which the sums begin: above 0 where a checkpoint did not tell them."""
        self._noted: dict[str, Any] = {}

    def note(self) -> None:
        """Take down the sums for a checkpoint; call it on every process."""
        trainer = self.trainer
        losses = trainer.gathered([float(trainer._tr_loss)])
        self._noted = {
            "seconds": self.earlier + time.monotonic() - self.began,
            "first_step": self.first_step,
            "total_loss": trainer._total_loss_scalar,
            "last_logged": trainer._globalstep_last_logged,
            "losses": losses,
            "metrics": trainer.gathered([dict(trainer._logged)]),
        }

    def write(self, folder: Path) -> None:
        """Write what was noted into a checkpoint that is being filled."""
        write_text(folder / FILE, json.dumps(self._noted) + "\n")

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.began = time.monotonic()
        self.earlier, self.first_step = 0.0, state.global_step
        checkpoint = self.trainer.resumed_from
        if not state.global_step or checkpoint is None:
            return
        if state.global_step > state.max_steps:
            raise UserError(
                f"--resume_from_checkpoint {checkpoint}: its {state.global_step} steps are more than this run has "
                f"({state.max_steps}); give more --num_train_epochs or --max_steps, or an earlier checkpoint"
            )
        state.compute_steps(args, state.max_steps)  # the checkpoint's would silently win over the flags of now
        found = _read(Path(checkpoint))
        if found is None:
            return
        trainer, rank = self.trainer, args.process_index
        same = len(found["losses"]) == args.world_size
        self.earlier, self.first_step = found["seconds"], found["first_step"]
        trainer._total_loss_scalar = found["total_loss"]
        trainer._globalstep_last_logged = found["last_logged"]
        # Over another number of processes the mean is what each of them goes on from.
        loss = found["losses"][rank] if same else sum(found["losses"]) / len(found["losses"])
        trainer._tr_loss += loss
        parts = [found["metrics"][rank]] if same else found["metrics"] if rank == 0 else []
        for part in parts:
            for name, values in part.items():
                trainer.record_sum(name, *values)

    def complete(self, logs: dict[str, Any], steps: int) -> None:
        """Make the closing log one of all sessions: transformers counts this one alone."""
        seconds = self.earlier + logs["train_runtime"]
        share = logs.get("train_samples_per_second", 0) / (logs.get("train_steps_per_second") or 1)
        args = self.trainer.args
        batch = share or args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        rate = steps / seconds if seconds else 0.0
        logs["train_runtime"] = round(seconds, 4)
        logs["train_steps_per_second"], logs["train_samples_per_second"] = round(rate, 3), round(rate * batch, 3)
        if steps > self.first_step:
            logs["train_loss"] = self.trainer._total_loss_scalar / (steps - self.first_step)


def _read(checkpoint: Path) -> dict[str, Any] | None:
    file = checkpoint / FILE
    if not file.is_file():
        return None
    try:
        found = read_json(file)
        if not {"seconds", "first_step", "total_loss", "last_logged", "losses", "metrics"} <= set(found):
            raise ValueError("a value is missing")
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); resume from another checkpoint") from error
    return found
