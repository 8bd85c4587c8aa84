"""A reference that follows the policy: every so many steps (TR-DPO, arXiv 2404.09656; each step: a moving average), or
at the end of each stage of a curriculum (Curry-DPO, arXiv 2403.07230).
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, concatenate_datasets
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from unveil.data import curriculum
from unveil.errors import UserError
from unveil.models import unwrap
from unveil.training.reference import FrozenCopy, reference_weights

if TYPE_CHECKING:
    from unveil.training.config import PreferenceConfig
    from unveil.training.preference_trainer import PreferenceTrainer

REFERENCE_FILE = "reference.safetensors"


def staged(dataset: Dataset, args: "PreferenceConfig") -> tuple[Dataset, list[int]]:
    """Prompts from easy to hard, shuffled within each stage, and the number of each stage's prompts.

    Sampling is made sequential: the order is the curriculum.
    """
    if args.num_train_epochs != 1 or args.max_steps > 0:
        raise UserError("--curriculum_stages: goes through the data once; leave out --num_train_epochs and --max_steps")
    parts = curriculum(dataset, stages=args.curriculum_stages)
    args.train_sampling_strategy = "sequential"
    return concatenate_datasets([part.shuffle(seed=args.seed) for part in parts]), [len(part) for part in parts]


class ReferenceSync(TrainerCallback):
    """Moves the reference after a step, and keeps it with every checkpoint so that a run resumes exactly."""

    def __init__(self, trainer: "PreferenceTrainer", stages: list[int]) -> None:
        if not isinstance(trainer.reference, FrozenCopy) or isinstance(trainer.policy, PeftModel):
            raise UserError(
                "--sync_ref_model, --curriculum_stages: need a reference with weights of its own that may move; leave "
                "out --use_peft, and cached values"
            )
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise UserError(
                "--sync_ref_model, --curriculum_stages: sharded weights cannot be mixed yet; use data parallel training"
            )
        self.trainer, self.reference = trainer, trainer.reference
        self.stage_ends = self._ends(stages)

    def _ends(self, stages: list[int]) -> list[int]:
        """Optimizer step after which each stage but the last is over."""
        args = self.trainer.args
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        if stages and min(stages) < batch:
            raise UserError(
                f"--curriculum_stages: a stage holds {min(stages)} prompts, fewer than an optimizer batch of {batch}; "
                "give fewer stages or smaller batches"
            )
        return [math.ceil(sum(stages[: i + 1]) / batch) for i in range(len(stages) - 1)]

    def load(self, folder: Path) -> None:
        """Go on with the reference of a checkpoint.

        Raises:
            UserError: the checkpoint has none.
        """
        path = folder / REFERENCE_FILE
        if not path.is_file():
            raise UserError(f"--resume_from_checkpoint: {path} is missing, so the reference cannot go on where it was")
        weights = load_file(path)
        for name, parameter in unwrap(self.reference.model).named_parameters():
            parameter.data.copy_(weights[name])

    def on_step_end(self, args: Any, state, control, **kwargs) -> None:
        policy = unwrap(self.trainer.policy)
        if self.stage_ends:
            if state.global_step in self.stage_ends:
                self.reference.mix(policy, 1.0)
        elif args.sync_ref_model and state.global_step % args.ref_model_sync_steps == 0:
            self.reference.mix(policy, args.ref_model_mixup_alpha)

    def save(self, folder: Path) -> None:
        """Write the reference into a checkpoint that is being filled."""
        save_file(reference_weights(self.reference), folder / REFERENCE_FILE)
