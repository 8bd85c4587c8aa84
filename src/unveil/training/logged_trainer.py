"""What a run tells: metrics of optimizer steps, held-out metrics, tokens and operations."""

import difflib
import sys
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from torch import nn

from unveil.errors import UserError
from unveil.training.resuming import ResumedRuns
from unveil.training.sessions import Sessions
from unveil.training.work import ForwardCount, Work


class LoggedTrainer(ResumedRuns):
    """`transformers.Trainer` whose metrics are means over the steps since the last log, and over ranks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._logged: dict[str, tuple[float, float]] = {}  # name -> weighted sum, weight
        self._work = self._work_before_step = Work()  # since it was last settled, on this rank
        super().__init__(*args, **kwargs)
        self.sessions = Sessions(self)
        self.add_callback(ForwardCount())
        self.add_callback(self.sessions)

    def use_wrapped_model(self) -> None:
        """Get ready to score outside of a training step."""
        raise NotImplementedError

    def gathered(self, records: list[Any]) -> list[Any]:
        """The records of all ranks, in rank order, on every rank."""
        return gather_object(records) if self.args.world_size > 1 else records

    def record(self, values: dict[str, float], weight: float = 1.0) -> None:
        """Remember metrics of one optimizer step, or of this rank's part of it; their weighted mean over steps and
        ranks is logged with the next loss."""
        for name, value in values.items():
            self.record_sum(name, weight * value, weight)

    def record_sum(self, name: str, total: float, weight: float) -> None:
        """Remember a weighted sum of a metric, and its weight."""
        before, whole = self._logged.get(name, (0.0, 0.0))
        self._logged[name] = before + total, whole + weight

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            ranks = self.gathered([self._logged])
            for name in dict.fromkeys(name for rank in ranks for name in rank):
                totals, weights = zip(*(rank[name] for rank in ranks if name in rank))
                logs[name] = sum(totals) / sum(weights)
            self._logged = {}
        if "loss" in logs or "train_runtime" in logs:  # the last one counts the steps since the last loss too
            total = self.settle_work()
            logs |= {"num_tokens": float(total.tokens), "num_forwards": float(total.forwards)}
        if "train_runtime" in logs:
            self.sessions.complete(logs, self.state.global_step)
        super().log(logs, start_time)

    @property
    def forward_count(self) -> ForwardCount:
        """The callback that counts (transformers may put another instance in its place on a resume)."""
        return next(one for one in self.callback_handler.callbacks if isinstance(one, ForwardCount))

    def settle_work(self) -> Work:
        """Add the work of all ranks to what checkpoints keep; returns all work of the run. Call it on every rank."""
        count = self.forward_count
        for work in self.gathered([self._work]):
            self.state.num_input_tokens_seen += work.tokens
            count.total += work.forwards
        self._work = Work(flops=self._work.flops)
        return Work(int(self.state.num_input_tokens_seen), count.total)

    def count(self, tokens: int = 0, forwards: int = 0, flops: float = 0.0) -> None:
        """Remember work of training on this rank."""
        self._work = self._work.plus(tokens, forwards, flops)

    def begin_step(self) -> None:
        """What is counted from here on belongs to the next optimizer step."""
        self._work_before_step = self._work

    def forget_step(self) -> None:
        """The optimizer step that has begun will not be finished: a run that goes on does it again."""
        self._work = self._work_before_step

    def before_training(self) -> None:
        """Refuse to choose checkpoints by a metric that evaluation does not give."""
        self._require_best_metric()

    def _require_best_metric(self) -> None:
        """Refuse a `metric_for_best_model` that no evaluation gives, before the first step and not after many.

        Its name is looked for among the metrics of some rows, and only if it is not there of all rows.
        """
        name, held_out = self.args.metric_for_best_model, self.eval_dataset
        if name is None or held_out is None or self.args.eval_strategy == "no":
            return
        parts: dict[str, Any] = held_out if isinstance(held_out, dict) else {"": held_out}
        known: set[str] = set()
        for limit in (self.args.per_device_eval_batch_size * self.args.world_size, sys.maxsize):
            for prefix, dataset in parts.items():
                known |= {f"{prefix}_{metric}".lstrip("_") for metric in self._metrics_of(dataset, limit)}
            if name.removeprefix("eval_") in known:
                return
        close = difflib.get_close_matches(name.removeprefix("eval_"), known, n=1, cutoff=0.4)
        raise UserError(
            f"--metric_for_best_model {name}: is none of the metrics of an evaluation"
            f"{f' (close to eval_{close[0]})' if close else ''}; choose one of {', '.join(sorted(known))}"
        )

    def _metrics_of(self, dataset: Any, limit: int) -> dict[str, float]:
        """Metrics of the first so many held-out rows, which count as no work of the run."""
        self.use_wrapped_model()
        work = self._work
        count = min(len(dataset), self.args.max_eval_samples or len(dataset), limit)
        values = self.evaluation_metrics([dataset[i] for i in range(count)])
        self._work = work  # of training alone, so that how often a run is evaluated is no cost of its method
        return values

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Make the optimizer; one that does not fit this model is refused in words."""
        try:
            return super().create_optimizer(*args, **kwargs)
        except (ValueError, TypeError, ImportError, RuntimeError) as error:
            if isinstance(error, UserError):
                raise
            name = getattr(self.args.optim, "value", self.args.optim)
            raise UserError(f"--optim {name}: {' '.join(str(error).split())[:200]}; choose another one") from error

    def add_to_checkpoint(self, folder: Path) -> None:
        super().add_to_checkpoint(folder)
        self.sessions.write(folder)

    def _save_checkpoint(self, model: nn.Module, trial) -> None:
        self.settle_work()
        self.sessions.note()
        super()._save_checkpoint(model, trial)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Score a held-out dataset on fixed draws; a dictionary of datasets gives one set of metrics each."""
        dataset: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, dict):
            metrics: dict[str, float] = {}
            for name, part in dataset.items():
                metrics |= self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{name}")
            return metrics
        if dataset is None:
            raise UserError("--eval_dataset_name: evaluation was asked for, but no held-out data was given")
        values = self._metrics_of(dataset, sys.maxsize)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in values.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def evaluation_metrics(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        """Metrics of held-out rows (names without the `eval_` prefix)."""
        raise NotImplementedError

    def floating_point_ops(self, inputs: Any) -> float:
        """FLOPs of training on this rank since the last call: pass 1, reference, pass 2, replay."""
        flops, self._work = self._work.flops, self._work._replace(flops=0.0)
        return flops
