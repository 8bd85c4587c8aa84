"""What a training run tells while it runs: its plan, one line per log, a bar on a terminal."""

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState

from unveil.training.draw_config import DrawConfig

# The metrics that fit on a line; metrics.jsonl has all of them.
SHOWN = (
    "loss", "nelbo_per_token", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
    "rewards/auc", "elbo/per_token",
)  # fmt: skip


def shown_metrics(logs: dict[str, Any]) -> dict[str, float]:
    """The shown metrics of a log or of an evaluation, with their names as logged."""
    return {k: logs[k] for name in SHOWN for k in (name, f"eval_{name}") if isinstance(logs.get(k), int | float)}


class ProgressLines(TrainerCallback):
    """Prints to stdout; the bar is on stderr and only where that is a terminal. Main process only."""

    def __init__(self, rows: int, passes_per_row: int) -> None:
        self.rows = rows
        self.passes_per_row = passes_per_row
        self.bar: Progress | None = None

    def on_train_begin(self, args: DrawConfig, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:  # type: ignore[override]
        if not state.is_world_process_zero:
            return
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        start = f", going on after step {state.global_step}" if state.global_step else ""
        print(
            f"plan: {state.max_steps} steps of {batch} answers ({state.num_train_epochs} x {self.rows} rows), "
            f"{args.num_draws} draws per answer, {self.passes_per_row} passes per draw, "
            f"{min(batch, self.rows) * args.num_draws * self.passes_per_row} passes per step{start}",
            flush=True,
        )
        if sys.stderr.isatty() and not args.disable_tqdm:
            columns = (
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.bar.add_task("training", total=state.max_steps, completed=state.global_step)
            self.bar.start()

    def on_step_end(self, args, state: TrainerState, control, **kwargs: Any) -> None:
        if self.bar:
            self.bar.update(self.bar.task_ids[0], completed=state.global_step)

    def on_log(self, args, state: TrainerState, control, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        shown = shown_metrics(logs or {})
        if state.is_world_process_zero and shown:
            values = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
            print(f"step {state.global_step}: {values}", flush=True)

    def on_train_end(self, args, state, control, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal, also when a run ends early."""
        if self.bar:
            self.bar.stop()
            self.bar = None
