"""An evaluation matrix: methods x starts x data sizes x seeds x tasks, declared in one YAML file.

    starts:   {base: {model_name_or_path: llada-base}, tuned: {model_name_or_path: llada-sft}}
    methods:  {none: , kto: {objective: kto, beta: 0.1}, dpo: {objective: dpo}}
    sizes:    [1000, all]
    seeds:    [0, 1, 2]
    tasks:    {gsm8k: {num_fewshot: 5}, ours: {tasks: ours, include_path: tasks}}
    train:    {dataset_name: thumbs.jsonl, max_steps: 100}     # flags of every `unveil train`
    evaluate: {num_draws: 64}                                  # flags of every `unveil evaluate`
    compare:  {dataset_name: prompts.jsonl, judge: human_ratings}  # optional: against the start, a column of its own

The grid of "Insights into Alignment" (arXiv 2404.14723). A method is flags of `unveil train`; without any, it is the
start itself, which has no data size. A path is looked for from where the command runs, then beside the file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from unveil.errors import UserError
from unveil.yaml_files import read_yaml

Flags = dict[str, Any]
WIN_RATE = "win rate"
_KEYS = {"starts", "methods", "sizes", "seeds", "tasks", "train", "evaluate", "compare", "metrics"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Cell:
    """One run: a start, a method, the number of rows it learns from (None: all, or it does not learn), a seed."""

    start: str
    method: str
    size: int | None
    seed: int

    @property
    def row(self) -> tuple[str, str, str]:
        """What a row of the table stands for: everything but the seed."""
        return self.start, self.method, "all" if self.size is None else str(self.size)

    @property
    def folder(self) -> Path:
        """Where the cell's files go, below the output folder."""
        return Path("cells", *self.row, f"seed-{self.seed}")

    def __str__(self) -> str:
        return f"{self.method} from {self.start}, {self.row[2]} rows, seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """A declared matrix. Flags as `unveil train`, `evaluate` and `compare` take them, without dashes."""

    starts: dict[str, Flags]
    methods: dict[str, Flags | None]
    sizes: list[int | None]
    seeds: list[int]
    tasks: dict[str, Flags]
    train: Flags = field(default_factory=dict)
    evaluate: Flags = field(default_factory=dict)
    compare: Flags | None = None
    metrics: dict[str, str] = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        """Every cell once, those of a start together."""
        found = []
        for start, (method, flags), size, seed in product(self.starts, self.methods.items(), self.sizes, self.seeds):
            found.append(Cell(start, method, size if flags is not None else None, seed))
        return list(dict.fromkeys(found))

    @property
    def columns(self) -> list[str]:
        """The tasks, and the win rate where it is asked for."""
        return [*self.tasks, *([WIN_RATE] if self.compare is not None else [])]


def read_grid(file: str | Path) -> Grid:
    """The matrix that a YAML file declares.

    Raises:
        UserError: a file that cannot be read, unknown or missing keys, values of another form.
    """
    where = f"--config {file}"
    declared = read_yaml(file, "--config")
    if not isinstance(declared, dict):
        raise UserError(f"{where}: must hold starts, methods, seeds and tasks; see `unveil matrix --help`")
    unknown = sorted(map(str, set(declared) - _KEYS))
    if unknown:
        raise UserError(f"{where}: unknown key {', '.join(unknown)}; the keys are {', '.join(sorted(_KEYS))}")
    for key in ("starts", "methods", "tasks"):
        if not declared.get(key):
            raise UserError(f"{where}: {key} is missing or empty; name at least one")
    folder = Path(file).resolve().parent

    def flags(key: str, value: Any) -> Flags:
        if not isinstance(value, dict):
            raise UserError(f"{where}: {key} must hold `flag: value` lines; correct it")
        return {str(name): _beside(folder, each) for name, each in value.items()}

    starts = {name: flags(f"starts.{name}", value) for name, value in _named(where, "starts", declared).items()}
    for name, value in starts.items():
        if "model_name_or_path" not in value:
            raise UserError(f"{where}: starts.{name} names no model_name_or_path; give a hub name or a folder")
    methods = {
        name: None if value is None else flags(f"methods.{name}", value)
        for name, value in _named(where, "methods", declared).items()
    }
    tasks = {
        name: {"tasks": name, **flags(f"tasks.{name}", value or {})}
        for name, value in _named(where, "tasks", declared).items()
    }
    compare = declared.get("compare")
    return Grid(
        starts,
        methods,
        [_size(where, size) for size in _list(where, "sizes", declared.get("sizes", ["all"]))],
        [_count(where, "seeds", seed, 0) for seed in _list(where, "seeds", declared.get("seeds", [0]))],
        tasks,
        flags("train", declared.get("train") or {}),
        flags("evaluate", declared.get("evaluate") or {}),
        None if compare is None else flags("compare", compare),
        {str(task): str(metric) for task, metric in (declared.get("metrics") or {}).items()},
    )


def _named(where: str, key: str, declared: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping by name, or a list of names."""
    value = declared[key]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        value = dict.fromkeys(value)
    if not isinstance(value, dict):
        raise UserError(f"{where}: {key} must be a mapping by name, or a list of names; correct it")
    for name in value:
        if not _NAME.fullmatch(str(name)):
            raise UserError(f"{where}: {key}.{name}: names are letters, digits, dots and dashes; choose another")
    return {str(name): each for name, each in value.items()}


def _list(where: str, key: str, value: Any) -> list[Any]:
    values = value if isinstance(value, list) else [value]
    if not values or len(set(map(str, values))) < len(values):
        raise UserError(f"{where}: {key}: give a list without repeats")
    return values


def _size(where: str, value: Any) -> int | None:
    return None if value == "all" else _count(where, "sizes", value, 1)


def _count(where: str, key: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{where}: {key}: {value!r} is not a whole number of at least {least}; correct it")
    return value


def _beside(folder: Path, value: Any) -> Any:
    """A relative path that leads somewhere from the file's folder, and nowhere from here, as an absolute one."""
    if isinstance(value, list):
        return [_beside(folder, each) for each in value]
    if isinstance(value, str) and value and not Path(value).exists() and (folder / value).exists():
        return str((folder / value).resolve())
    return value
