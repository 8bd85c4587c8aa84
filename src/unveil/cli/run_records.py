"""What a run folder tells: `run.json` and `metrics.jsonl` of training or of the demo, `compare.json` of comparisons."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unveil.checksums import require_as_written
from unveil.errors import UserError, shortened
from unveil.files import read_json
from unveil.judging import sign_test

RUN, METRICS, COMPARE = "run.json", "metrics.jsonl", "compare.json"


@dataclass(frozen=True)
class RunRate:
    """A win rate of the run's model by one judge. `null` is that of the other model against itself.

    source: the file or folder that tells it, for runs that were judged more than once.
    """

    judge: str
    against: str
    rate: float
    low: float
    high: float
    counts: tuple[int, int, int]
    p_value: float | None
    null: tuple[float, float, float] | None = None
    equal_length: tuple[float, float, float] | None = None
    unparsed: int = 0
    source: str = ""


@dataclass(frozen=True)
class Lengths:
    """Mean length of the run's answers and of those that it was compared with."""

    own: float
    other: float
    unit: str


@dataclass
class RunRecord:
    """One run. What its folder does not tell is None or empty, and `notes` says what was odd about it.

    unread: for each judge without a win rate, since none of its verdicts could be read, what to say of it.
    """

    path: Path
    name: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    logs: list[dict[str, Any]] = field(default_factory=list)
    rates: list[RunRate] = field(default_factory=list)
    lengths: Lengths | None = None
    models: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @property
    def training(self) -> list[dict[str, Any]]:
        """Logs of optimizer steps."""
        return [log for log in self.logs if "loss" in log]

    @property
    def held_out(self) -> list[dict[str, Any]]:
        """Logs of evaluations, names without `eval_`."""
        return [{k.removeprefix("eval_"): v for k, v in log.items()} for log in self.logs if _is_evaluation(log)]

    @property
    def arguments(self) -> dict[str, Any]:
        """The settings of the run, as far as they are known."""
        return self.record.get("arguments") or self.record.get("settings") or {}

    def row_of(self, rate: RunRate) -> str:
        """The run's name, with the source of the rate where one judge gave several."""
        judges = [other.judge for other in self.rates]
        return self.name if len(set(judges)) == len(judges) else f"{self.name}, {rate.source}"

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of a metric of training."""
        logs = [log for log in self.training if log.get(name) is not None]
        return [float(log["step"]) for log in logs], [float(log[name]) for log in logs]

    def last(self, name: str) -> float | None:
        """The latest value of a metric in any log, held-out rows first."""
        for logs in (self.held_out, self.logs):
            values = [log[name] for log in logs if isinstance(log.get(name), int | float)]
            if values:
                return float(values[-1])
        return None


def read_runs(folders: list[str]) -> list[RunRecord]:
    """The runs in these folders; a folder of `unveil compare` whose model A is another one's joins that one.

    Raises:
        UserError: a folder that is no run's, given twice, or holds a file that cannot be read.
    """
    paths = [Path(folder) for folder in folders]
    seen: dict[Path, str] = {}
    for folder, path in zip(folders, paths):
        if seen.setdefault(path.resolve(), folder) != folder or folders.count(folder) > 1:
            raise UserError(f"{folder}: is given twice; name every run once")
    records = [read_run(path) for path in paths]
    by_path = {record.path.resolve(): record for record in records if record.record or record.logs}
    kept = []
    for record in records:
        places = [place for model in record.models for place in (Path(model).resolve(), Path(model).resolve().parent)]
        owner = next((by_path[place] for place in places if place in by_path), None)
        if owner is not None and not (record.record or record.logs):
            owner.rates += record.rates
            owner.lengths = owner.lengths or record.lengths
            owner.notes += record.notes
            owner.unread += record.unread
        else:
            kept.append(record)
    for record, name in zip(kept, _short_names([record.path for record in kept])):
        record.name = name
    return kept


def read_run(path: Path) -> RunRecord:
    """One folder, with the comparisons in it and in the folders directly below it."""
    if not path.is_dir():
        raise UserError(f"{path}: is no folder; give folders that unveil train, sft, demo or compare wrote")
    comparisons = [file for file in (path / COMPARE, *sorted(path.glob(f"*/{COMPARE}"))) if file.is_file()]
    if not comparisons and not any((path / name).is_file() for name in (RUN, METRICS)):
        raise UserError(
            f"{path}: is no run folder, it holds neither {RUN} nor {METRICS} nor {COMPARE}; give folders that unveil "
            "train, sft, demo or compare wrote"
        )
    require_as_written(path, str(path), "run it again, or mend the file from a copy", (RUN, METRICS))
    run = RunRecord(path)
    if (path / RUN).is_file():
        run.record = _read_record(path / RUN)
    if (path / METRICS).is_file():
        run.logs = _read_logs(path / METRICS, run.notes)
    results = run.record.get("results") or {}
    if "adjusted_win_rate" in results:
        _add_demo(run, path / RUN, results)
    for file in comparisons:
        _add_comparison(run, file)
    return run


def _add_demo(run: RunRecord, file: Path, results: dict[str, Any]) -> None:
    try:
        counts = (int(results["wins"]), int(results["ties"]), int(results["losses"]))
        outcomes = [1.0] * counts[0] + [0.5] * counts[1] + [0.0] * counts[2]
        null = (float(results["null_win_rate"]), *map(float, results["null_interval"]))
        run.rates.append(
            RunRate(
                "human ratings",
                "its base",
                float(results["adjusted_win_rate"]),
                *map(float, results["interval"]),
                counts=counts,
                p_value=sign_test(outcomes).p_value,
                null=(null[0], null[1], null[2]),
                equal_length=_demo_control(results),
                source=file.name,
            )
        )
        lengths = results["mean_length"]
        run.lengths = Lengths(float(lengths["aligned"]), float(lengths["base"]), "tokens")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: its results are not those of a demo ({error!r}); run the demo again") from error


def _demo_control(results: dict[str, Any]) -> tuple[float, float, float] | None:
    """The win rate at equal lengths, which earlier demos did not tell."""
    interval = results.get("length_controlled_interval")
    if interval is None:
        return None
    return float(results["length_controlled_win_rate"]), float(interval[0]), float(interval[1])


def _add_comparison(run: RunRecord, file: Path) -> None:
    summary = _read_json(file)
    try:
        for judged in summary.get("judges") or [summary]:
            found, null = judged["comparison"], judged.get("null")
            run.lengths = run.lengths or Lengths(float(found["mean_length_a"]), float(found["mean_length_b"]), "words")
            rate, control = found["win_rate"], found.get("length_controlled")
            if rate is None:
                verdicts = int(found["asked"])
                run.unread.append(f"no win rate by {judged['judge']} (none of {verdicts} verdicts could be read)")
                continue
            run.rates.append(
                RunRate(
                    judge=str(judged["judge"]),
                    against=str(summary["against"]),
                    rate=float(rate["rate"]),
                    low=float(rate["low"]),
                    high=float(rate["high"]),
                    counts=(int(rate["wins"]), int(rate["ties"]), int(rate["losses"])),
                    p_value=found["sign"]["p_value"] if "sign" in found else None,
                    null=_interval(null["win_rate"]) if null and null["win_rate"] else None,
                    equal_length=_interval(control) if control else None,
                    unparsed=int(found.get("unparsed", 0)),
                    source=file.parent.name,
                )
            )
        run.models.append(str(summary["model"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: is not as unveil compare writes it ({error!r}); compare again") from error


def _interval(found: dict[str, Any]) -> tuple[float, float, float]:
    return float(found["rate"]), float(found["low"]), float(found["high"])


def _read_record(file: Path) -> dict[str, Any]:
    """A `run.json`, if its parts are what they should be."""
    record = _read_json(file)
    for name in ("arguments", "settings", "results"):
        if not isinstance(record.get(name) or {}, dict):
            raise UserError(f"{file}: {name} is no JSON object; mend or remove the file")
    return record


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = read_json(file)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file}: cannot be read as JSON ({' '.join(str(error).split())}); mend or remove it"
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: holds no JSON object; mend or remove it")
    return value


def _read_logs(file: Path, notes: list[str]) -> list[dict[str, Any]]:
    logs = []
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8 text'})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            log = json.loads(line)
            if not isinstance(log, dict) or not isinstance(log.get("step"), int | float):
                raise ValueError("no object with a step")
            odd = [name for name, value in log.items() if not isinstance(value, int | float | None)]
            if odd:
                raise ValueError(f"{shortened(odd[0])} is {shortened(log[odd[0]])}, not a number")
        except (ValueError, RecursionError) as error:
            if number == len(lines):  # no line end follows: the run was killed while it wrote
                notes.append(f"the last line of {file.name} was cut off and is left out")
                continue
            reason = " ".join(str(error).split())
            raise UserError(f"{file}, line {number}: is no log of a run ({reason}); mend or remove the line") from error
        logs.append(log)
    return logs


def _is_evaluation(log: dict[str, Any]) -> bool:
    return any(name.startswith("eval_") for name in log)


def _short_names(paths: list[Path]) -> list[str]:
    """As few of the last parts of each path as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-count:]) for one in parts]
        if len(set(names)) == len(names):
            break
    return names
