"""What goes to the Hugging Face hub: whole models and checkpoints, as they stand in the output folder.

transformers saves the model a second time to push it, writes its own card over ours, and uploads while checkpoints
move. Here what was published is what is uploaded; hidden files (locks, what is being saved) stay here.
"""

import os
import shutil
from pathlib import Path
from typing import Any, cast

from huggingface_hub import CommitInfo, HfApi
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy
from transformers.utils.hub import PushInProgress

from unveil.checksums import FILE as CHECKSUMS

PUSHING = ".pushing"
_LEFT_OUT = ["_*", ".*", "*/.*", f"{PREFIX_CHECKPOINT_DIR}-*"]
# Of a checkpoint, what a run needs to go on and a model does not.
_STATES = [
    "optimizer*", "scheduler.pt", "scaler.pt", "rng_state*", "trainer_state.json", "run_identity.json", "sessions.json",
    "reference.safetensors", CHECKSUMS, "global_step*", "pytorch_model_fsdp*", "latest", "zero_to_fp32.py",
]  # fmt: skip


class PushedFolders(Trainer):
    """Mixin of `transformers.Trainer` that uploads what is whole."""

    _published_at: int | None = None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; a list of checksums of another one that was there goes first."""
        self._published_at = None
        if self.args.should_save:
            (Path(output_dir or str(self.args.output_dir)) / CHECKSUMS).unlink(missing_ok=True)
        super().save_model(output_dir, _internal_call)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> CommitInfo:
        """Upload the output folder; save the model in it first unless it was published there.

        Args and result are those of `transformers.Trainer.push_to_hub`.
        """
        args = self.args
        self.callback_handler.on_push_begin(args, self.state, self.control)
        if getattr(self, "hub_model_id", None) is None:
            self.init_hf_repo(token=token, private=private)
        if self._published_at != self.state.global_step:
            self.save_model(_internal_call=True)
            self.create_model_card(**{"model_name": str(self.hub_model_id or "").split("/")[-1] or None, **kwargs})
        if not self.is_world_process_zero():
            return cast(CommitInfo, None)
        self._finish_current_push()
        return cast(
            CommitInfo,
            self._upload(str(args.output_dir), commit_message, _LEFT_OUT, not blocking, revision, token),
        )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing yet: the checkpoint is renamed before an upload of it would end."""

    def push_checkpoint(self, checkpoint: Path) -> None:
        """Begin to upload a whole checkpoint, as `--hub_strategy` says (main process); training goes on."""
        args = self.args
        if not args.push_to_hub or not self.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
            return
        running = self.push_in_progress
        if running is not None and not running.is_done() and not args.hub_always_push:
            return
        self._finish_current_push()
        self.callback_handler.on_push_begin(args, self.state, self.control)
        shown = self._linked(checkpoint)
        message = f"Training in progress, step {self.state.global_step}"
        jobs: Any = [self._upload(shown, message, [*_LEFT_OUT, *_STATES], True)]
        if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            there = "last-checkpoint" if args.hub_strategy == HubStrategy.CHECKPOINT else checkpoint.name
            jobs.append(self._upload(shown, f"{message}, checkpoint", [], True, path_in_repo=there))
        self.push_in_progress = PushInProgress(jobs)

    def _linked(self, checkpoint: Path) -> str:
        """The files of a checkpoint under a name that stays until the next upload, though it is rotated away."""
        shown = checkpoint.parent / PUSHING
        shutil.rmtree(shown, ignore_errors=True)
        shutil.copytree(checkpoint, shown, copy_function=_link)
        return str(shown)

    def _upload(
        self,
        folder: str,
        message: str | None,
        left_out: list[str],
        in_background: bool,
        revision: str | None = None,
        token: str | None = None,
        path_in_repo: str | None = None,
    ) -> Any:
        return HfApi().upload_folder(
            repo_id=str(self.hub_model_id),
            folder_path=folder,
            path_in_repo=path_in_repo,
            commit_message=message,
            token=token or self.args.hub_token,
            revision=revision or self.args.hub_revision,
            ignore_patterns=left_out,
            run_as_future=in_background,
        )


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
