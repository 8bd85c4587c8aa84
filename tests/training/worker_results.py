"""What a worker of several processes hands over to the test that started it."""

import os
from pathlib import Path
from typing import Any

import torch

# Time, and what depends on how the work was cut.
_OF_THE_CUT = ("runtime", "per_second", "flos", "passes_gap")


def logs_of(trainer: Any) -> list[dict[str, Any]]:
    """The logged lines, without what may differ between one process and several."""
    return [{k: v for k, v in line.items() if not k.endswith(_OF_THE_CUT)} for line in trainer.state.log_history]


def handed_over(found: dict[str, Any], trainer: Any, output: str) -> dict[str, Any]:
    """Save what was found (main process) as `found.pt`, and end the group of processes."""
    if trainer.is_world_process_zero():
        torch.save(found, Path(output) / "found.pt")
    trainer.accelerator.wait_for_everyone()
    if "WORLD_SIZE" in os.environ:
        trainer.accelerator.end_training()
    return found
