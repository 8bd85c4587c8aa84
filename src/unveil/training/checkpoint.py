"""Checkpoints appear whole or not at all, list what they hold, and are refused where that is not what is there.

They are filled in a staging folder, listed with checksums, forced to the disk and renamed; so is the model at the end.
A run that dies while it saves leaves the staging folder behind, which no resume looks at and the next save clears.
"""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from unveil.checksums import FILE as CHECKSUMS
from unveil.checksums import damage_of, has_checksums, state_of, write_checksums
from unveil.errors import UserError, warn_user
from unveil.files import (
    make_folder,
    obey_umask,
    publish_folder,
    read_json,
    recover_folder,
    recover_folders,
    remove_folder,
    sync_folder,
    sync_tree,
)
from unveil.training.divergence import require_finite_weights
from unveil.training.pushed import PUSHING, PushedFolders

STAGING = ".saving"
STATE = "trainer_state.json"
_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
# A user may write a card of their own.
_NOT_LISTED = ("README.md",)
# What a run has written line by line.
_GROWN = ("metrics.jsonl",)


class StagedCheckpoints(PushedFolders, Trainer):
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
        with _told_when_unwritable(folder, name):
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
        staged = folder / STAGING / name
        values = read_json(staged / STATE) | {"best_model_checkpoint": self.state.best_model_checkpoint}
        (staged / STATE).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        write_checksums(staged)
        publish_folder(staged, folder / name)
        shutil.rmtree(folder / STAGING, ignore_errors=True)
        self.push_checkpoint(folder / name)
        _rotate(folder, self.state.global_step, self.args.save_total_limit, self.state.best_model_checkpoint)

    def publish_model(self, add: Callable[[Path], None]) -> None:
        """Save the model at the top of the output folder, with what `add(folder)` writes beside it (main process).

        The list of checksums comes first: a folder in which a crash has mixed two models is found to be damaged.
        """
        output = Path(str(self.args.output_dir))
        staged = output / STAGING / "model"
        if self.args.should_save:
            shutil.rmtree(output / STAGING, ignore_errors=True)
            staged.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        with _told_when_unwritable(output, "the trained model"):
            self.save_model(str(staged), _internal_call=True)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                self.state.save_to_json(str(staged / STATE))
                add(staged)
                self._finish_current_push()
                shutil.rmtree(output / PUSHING, ignore_errors=True)
                _move_in(staged, output)
        self._published_at = self.state.global_step
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)


def _move_in(staged: Path, output: Path) -> None:
    """List the files of a folder with what is listed beside them, and move them to where they belong."""
    obey_umask(staged)
    sync_tree(staged)
    made = [path.relative_to(staged) for path in sorted(staged.rglob("*")) if path.is_file()]
    listed = {path.as_posix(): staged / path for path in made if path.name not in _NOT_LISTED}
    write_checksums(output, listed | {name: output / name for name in _GROWN if (output / name).is_file()})
    for path in made:
        make_folder((output / path).parent)
        os.replace(staged / path, output / path)
    for folder in {(output / path).parent for path in made}:
        sync_folder(folder)
    shutil.rmtree(output / STAGING, ignore_errors=True)


@contextmanager
def _told_when_unwritable(folder: Path, what: str) -> Iterator[None]:
    """Tell a full or failing disk in one line, and give back the room that was taken."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # safetensors raises a bare one
        reason = _why_unwritable(error)
        if reason is None:
            raise
        shutil.rmtree(folder / STAGING, ignore_errors=True)
        kept = last_checkpoint_in(folder)
        remedy = (
            f"{kept.name} is kept: make room and go on with --resume_from_checkpoint True"
            if kept
            else "make room and start again"
        )
        raise UserError(f"{folder}: {what} could not be saved ({reason}); {remedy}") from error


def _why_unwritable(error: BaseException | None) -> str | None:
    """What the disk said, also where a library made something else of it; None if it was no disk."""
    text = ""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        if "(os error" in str(error):
            return str(error).partition(" (os error")[0]
        if isinstance(error, SafetensorError) or "inline_container" in str(error) or "PytorchStream" in str(error):
            text = "the disk took only a part of it" if isinstance(error, RuntimeError) else str(error)
        error = error.__cause__ or error.__context__
    return " ".join(text.split())[:120] or None


def checkpoints_in(folder: Path) -> dict[int, Path]:
    """The checkpoints in an output folder by their step, in its order."""
    found = [(_NAME.fullmatch(path.name), path) for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.is_dir()]
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def last_checkpoint_in(folder: Path) -> Path | None:
    """The checkpoint of the highest step in an output folder; None if there is none."""
    found = checkpoints_in(folder)
    return found[max(found)] if found else None


def _rotate(folder: Path, step: int, limit: int | None, best: str | None) -> None:
    """Remove what exceeds the limit: first what is ahead of this run (it went back to an earlier step), then the
    earliest. The one that was just written and the best one stay."""
    if not limit or limit < 1:
        return
    found = checkpoints_in(folder)
    kept = {number for number, path in found.items() if number == step or (best and path.name == Path(best).name)}
    removable = [number for number in sorted(found, key=lambda number: (number <= step, number)) if number not in kept]
    for number in removable[: max(0, len(found) - max(limit, len(kept)))]:
        remove_folder(found[number])


def checkpoint_to_resume(output_dir: str, wanted: str | bool | None) -> str | None:
    """Path of the checkpoint that `--resume_from_checkpoint` names; `True` takes the last one in `output_dir`.

    Raises:
        UserError: there is none, or it is not a whole checkpoint (the main process looks); a newest whole one is named.
    """
    if wanted in (None, False, "False", "false"):
        return None
    if wanted not in (True, "True", "true"):
        chosen = Path(str(wanted))
        recover_folder(chosen)
        if not has_checksums(chosen) and not (chosen / STATE).is_file():
            raise UserError(f"--resume_from_checkpoint {wanted}: no {STATE} there; give a checkpoint-N folder")
    else:
        recover_folders(Path(output_dir))
        last = last_checkpoint_in(Path(output_dir))
        if last is None:
            raise UserError(
                f"--resume_from_checkpoint: no checkpoint in {output_dir}; leave the flag out to start afresh"
            )
        chosen = last
    if os.environ.get("RANK", "0") == "0":
        _require_whole(chosen)
    return str(chosen)


_looked_at: dict[Path, Any] = {}


def _require_whole(checkpoint: Path) -> None:
    """Look at every byte of a checkpoint, once."""
    state = state_of(checkpoint)
    if _looked_at.get(checkpoint.resolve()) == state:
        return
    if damage := _damage(checkpoint):
        others = [path for path in reversed(checkpoints_in(checkpoint.parent).values()) if path.name != checkpoint.name]
        whole = next((path for path in others if not _damage(path)), None)
        remedy = f"the newest whole one is {whole}, resume from that" if whole else "no other one there is whole"
        raise UserError(f"--resume_from_checkpoint {checkpoint}: {damage}; {remedy}, or start anew")
    if not has_checksums(checkpoint):
        warn_user(
            f"{checkpoint}: has no {CHECKSUMS} (earlier versions wrote none); nothing is missing, but nothing tells "
            "whether it is as it was written"
        )
    _looked_at[checkpoint.resolve()] = state


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint; of one without checksums, what can be seen without them."""
    if has_checksums(checkpoint):
        return damage_of(checkpoint, foreign=True)
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file()]
    unreadable = next((path.name for path in files if not _is_readable(path)), None)
    if unreadable:
        return f"{unreadable} is cut or damaged"
    if not any(path.suffix in (".safetensors", ".bin", ".distcp") for path in files):
        return "holds no weights"
    return None if (checkpoint / STATE).is_file() else f"{STATE} is missing"


def _is_readable(path: Path) -> bool:
    """Whether a file begins and ends as one of its kind."""
    try:
        if path.suffix == ".json":
            return isinstance(read_json(path), dict)
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                return True
        return path.suffix not in (".pt", ".pth") or zipfile.is_zipfile(path)
    except (OSError, ValueError, SafetensorError):
        return False
