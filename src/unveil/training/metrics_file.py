"""`metrics.jsonl` in the output folder: one JSON object per logged line, written as training goes."""

import json
import math
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from unveil.files import write_text

NAME = "metrics.jsonl"


class MetricsFile(TrainerCallback):
    """Appends every log of the main process; on resume drops the lines after the checkpoint's step."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        if state.is_world_process_zero:
            path = Path(str(args.output_dir)) / NAME
            if not path.is_file():
                return
            logs = [(line, json.loads(line)) for line in _lines(path)]
            # The closing line of an earlier session would stand in the middle: the last session writes its own.
            kept = [line for line, log in logs if log["step"] <= state.global_step and "train_runtime" not in log]
            write_text(path, "".join(kept if state.global_step else []))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs
    ) -> None:
        if state.is_world_process_zero and logs:
            finite = {k: v for k, v in logs.items() if not isinstance(v, float) or math.isfinite(v)}
            path = Path(str(args.output_dir)) / NAME
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **finite}) + "\n")


def _lines(path: Path) -> list[str]:
    """Whole lines of the file; a last line cut by a kill is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]
