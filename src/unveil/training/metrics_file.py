"""`metrics.jsonl` in the output folder: one JSON object per logged line, written as training goes.

A checkpoint holds the lines up to its step too (`log_history`): a run that goes on writes the file anew from them, so
that neither a line that was lost nor one that was damaged stays so.
"""

import json
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from unveil.checksums import unlist
from unveil.errors import warn_user
from unveil.files import append_text, read_whole_lines, sync_file, write_text

NAME = "metrics.jsonl"


class MetricsFile(TrainerCallback):
    """Appends every log of the main process; a run that goes on keeps what its checkpoint knows, and nothing later."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        path = Path(str(args.output_dir)) / NAME
        unlist(path.parent, NAME)
        own = path.is_file() or (path.parent / f"checkpoint-{state.global_step}").is_dir()
        # The closing line of an earlier session would stand in the middle: the last session writes its own.
        if state.global_step and own:
            write_text(path, "".join(_restored(path, [log for log in state.log_history if "train_runtime" not in log])))
        elif path.is_file():
            write_text(path, "")

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs
    ) -> None:
        if state.is_world_process_zero and logs:
            append_text(Path(str(args.output_dir)) / NAME, _line(state.global_step, logs), sync=False)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        _sync(args, state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        _sync(args, state)


def _sync(args: TrainingArguments, state: TrainerState) -> None:
    path = Path(str(args.output_dir)) / NAME
    if state.is_world_process_zero and path.is_file():
        sync_file(path)


def _line(step: int, logs: dict[str, Any]) -> str:
    """JSON knows no NaN: what is not finite is left out."""
    finite = {k: v for k, v in logs.items() if not isinstance(v, float) or math.isfinite(v)}
    return json.dumps({"step": step, **finite}) + "\n"


def _restored(path: Path, history: list[dict[str, float]]) -> list[str]:
    """The lines of what was logged up to the checkpoint, as the file has them where it has; says what it had not."""
    lines, torn = read_whole_lines(path) if path.is_file() else ([], False)
    logs = [_log_in(line) for line in lines]
    there = {json.dumps(log, sort_keys=True): line.decode() + "\n" for log, line in zip(logs, lines) if log is not None}
    known = [_line(int(log["step"]), log) for log in history]
    kept = [there.get(json.dumps(json.loads(line), sort_keys=True)) for line in known]
    lost, unread = (kept.count(None) if path.is_file() else 0), logs.count(None)
    said = [f"{lost} lines are missing or damaged"] * bool(lost)
    said += [f"{unread} lines are no logs"] * bool(unread)
    said += ["the last line was cut off"] * torn
    if said:
        warn_user(f"{path}: {', '.join(said)}; what the checkpoint knows of them is written anew")
    return [one or other for one, other in zip(kept, known)]


def _log_in(line: bytes) -> dict[str, Any] | None:
    try:
        log = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return log if isinstance(log, dict) else None
