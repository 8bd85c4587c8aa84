"""Checkpoints appear whole or not at all: they are filled in a staging folder and renamed.

A run that is killed while it saves leaves the staging folder behind, which no resume looks at and the next save
clears.
"""

import json
import shutil
from pathlib import Path

from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint, rotate_checkpoints

from unveil.errors import UserError
from unveil.files import write_json
from unveil.training.divergence import require_finite_weights

STAGING = ".saving"


class StagedCheckpoints(Trainer):
    """Mixin of `transformers.Trainer` that saves through a staging folder."""

    _staging: bool = False

    def _get_output_dir(self, trial) -> str:
        folder = super()._get_output_dir(trial)
        return str(Path(folder) / STAGING) if self._staging else folder

    def _save_checkpoint(self, model: nn.Module, trial) -> None:
        require_finite_weights(model, self.state.global_step)
        folder = Path(super()._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(folder / STAGING, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._staging = True
        try:
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                self.add_to_checkpoint(folder / STAGING / name)
        finally:
            self._staging = False
        self.accelerator.wait_for_everyone()
        best = self.state.best_model_checkpoint
        if best and Path(best).parent.name == STAGING:
            self.state.best_model_checkpoint = str(folder / Path(best).name)
        if self.args.should_save:
            self._publish(folder, name)
        self.accelerator.wait_for_everyone()

    def add_to_checkpoint(self, folder: Path) -> None:
        """Write what a subclass keeps beside model and optimizer."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Go on with the learning rate of the flags: the checkpoint's would silently win over a lower one."""
        super()._load_optimizer_and_scheduler(checkpoint)
        scheduler, rate = self.lr_scheduler, self.args.learning_rate
        if checkpoint is None or not isinstance(scheduler, LambdaLR) or set(scheduler.base_lrs) == {rate}:
            return
        scheduler.base_lrs = [rate] * len(scheduler.base_lrs)
        for group, factor in zip(scheduler.optimizer.param_groups, scheduler.lr_lambdas, strict=True):
            group["initial_lr"], group["lr"] = rate, rate * factor(scheduler.last_epoch)
        scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]

    def _publish(self, folder: Path, name: str) -> None:
        staged, final = folder / STAGING / name, folder / name
        state = staged / "trainer_state.json"
        values = json.loads(state.read_text())
        write_json(state, values | {"best_model_checkpoint": self.state.best_model_checkpoint})
        if final.exists():
            shutil.rmtree(final)
        staged.rename(final)
        shutil.rmtree(folder / STAGING, ignore_errors=True)
        rotate_checkpoints(
            output_dir=str(folder),
            save_total_limit=self.args.save_total_limit,
            best_model_checkpoint=self.state.best_model_checkpoint,
            use_mtime=True,
        )


def checkpoint_to_resume(output_dir: str, wanted: str | bool | None) -> str | None:
    """Path of the checkpoint that `--resume_from_checkpoint` names; `True` takes the last one in `output_dir`.

    Raises:
        UserError: there is none, or it is not a whole checkpoint.
    """
    if wanted in (None, False, "False", "false"):
        return None
    if wanted in (True, "True", "true"):
        last = get_last_checkpoint(output_dir) if Path(output_dir).is_dir() else None
        if last is None:
            raise UserError(
                f"--resume_from_checkpoint: no checkpoint in {output_dir}; leave the flag out to start afresh"
            )
        return last
    if not (Path(str(wanted)) / "trainer_state.json").is_file():
        raise UserError(f"--resume_from_checkpoint {wanted}: no trainer_state.json there; give a checkpoint-N folder")
    return str(wanted)
