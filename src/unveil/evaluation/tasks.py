"""From task names to lm-eval's task objects, with the user's mistakes told in one line.

Names are looked up in `--include_path` first; lm-eval's own thousands of task files are read only where that does not
settle it. A task's `data_files` may be given relative to its own YAML file, so that a folder of tasks can be moved.
"""

import contextlib
import difflib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unveil.errors import UserError, how_to_install, warn_user


def require_lm_eval() -> None:
    """Refuse, in one line, where the extra is missing."""
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise UserError(f"unveil evaluate: lm-eval is not installed ({error}); {how_to_install('eval')}") from error


@contextlib.contextmanager
def quiet_lm_eval() -> Iterator[None]:
    """lm-eval and datasets narrate and draw bars while they prepare; only lm-eval's errors are shown."""
    import datasets
    from lm_eval.api import task

    logger = logging.getLogger("lm_eval")
    level, bar, bars = logger.level, task.tqdm, datasets.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    setattr(task, "tqdm", lambda items, *_, **__: items)  # noqa: B010  (no setting of theirs reaches this bar)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        setattr(task, "tqdm", bar)  # noqa: B010
        if bars:
            datasets.enable_progress_bars()


def load_tasks(names: Sequence[str], include_path: Sequence[str] = ()) -> dict[str, Any]:
    """What `lm_eval.evaluator.evaluate` takes: tasks, groups and their members.

    Args:
        names: names of tasks, groups or tags, patterns such as `mmlu_*`, or YAML files.
        include_path: folders of task files.

    Raises:
        UserError: unknown task, missing or damaged file, data that cannot be loaded.
    """
    require_lm_eval()
    for folder in include_path:
        if not Path(folder).is_dir():
            raise UserError(f"--include_path {folder}: there is no such folder; give a folder of task files (*.yaml)")
    from lm_eval.tasks import TaskManager

    # Absolute, since every task is loaded from the folder of its data.
    folders: list[str | Path] = [Path(folder).resolve() for folder in include_path]
    with quiet_lm_eval():
        manager = TaskManager(include_path=folders, include_defaults=False)
        strangers = [name for name in names if not _known(manager, name)]
        if strangers:
            _refuse_damaged(strangers, include_path)
            manager = TaskManager(include_path=folders)
        specs = [spec for name in names for spec in _resolve(manager, name)]
        built: list[Any] = []
        for spec in dict.fromkeys(specs):
            loaded = _load(manager, spec)
            built += loaded
        try:
            return dict(manager.load(built))
        except ValueError as error:
            raise UserError(f"--tasks {','.join(names)}: {_line(error)}; name every task once") from error


def leaf_tasks(loaded: dict[str, Any]) -> dict[str, Any]:
    """Every single task by name."""
    return dict(loaded["tasks"])


def settle_shots(tasks: dict[str, Any], num_fewshot: int | None, by_task: dict[str, int], seed: int) -> None:
    """Number of examples in the prompt: the flag, else the preset, else the task's file, else none.

    A file that says 0 means that its prompt has no place for examples; lm-eval does not overrule it, nor is it here.
    """
    for name, task in tasks.items():
        wanted = num_fewshot if num_fewshot is not None else by_task.get(name)
        own = task.get_config("num_fewshot")
        if wanted is None:
            wanted = own or 0
        elif own == 0 and wanted:
            warn_user(f"task {name}: its file fixes num_fewshot at 0; {wanted} is left out")
            wanted = 0
        task.set_config(key="num_fewshot", value=wanted)
        task.set_fewshot_seed(seed=seed)


def _known(manager: Any, name: str) -> bool:
    return name in manager.task_index or bool(manager.match_tasks([name])) or Path(name).suffix in (".yaml", ".yml")


def _resolve(manager: Any, name: str) -> list[str]:
    if Path(name).suffix in (".yaml", ".yml"):
        if not Path(name).is_file():
            raise UserError(f"--tasks {name}: there is no such file; check the path")
        return [name]
    if name in manager.task_index:
        return [name]
    found = manager.match_tasks([name])
    if found:
        return list(found)
    near = difflib.get_close_matches(name, manager.all_tasks, n=1)
    hint = f" (close to {near[0]})" if near else ""
    raise UserError(f"--tasks {name}: unknown task{hint}; for your own give --include_path FOLDER or its YAML file")


def _refuse_damaged(names: Sequence[str], folders: Sequence[str]) -> None:
    """A file of the user's that speaks of one of these tasks and cannot be read; lm-eval passes over it in silence."""
    from lm_eval.tasks._index import TaskIndex
    from lm_eval.tasks._yaml_loader import load_yaml

    for folder in folders:
        for file in sorted(Path(folder).glob("**/*.yaml")):
            text = file.read_text(encoding="utf-8", errors="replace")
            told = [name for name in names if name in text or name == file.stem]
            if not told:
                continue
            try:
                TaskIndex._kind_of(load_yaml(file, resolve_func=False))
            except Exception as error:  # whatever a YAML file and what it includes can raise
                raise UserError(f"--tasks {told[0]}: {file} cannot be read ({_line(error)}); correct it") from error


def _load(manager: Any, spec: str) -> list[Any]:
    """One spec's tasks or group, loaded beside its data."""
    entry = manager.task_index.get(spec) or manager._index.get(spec)
    file = Path(spec) if entry is None else entry.yaml_path
    config = _config_of(file) if file is not None else {}
    where = f"task {config.get('task') or spec}"
    folder = _folder_of_data(where, config, file)
    try:
        with contextlib.chdir(folder) if folder else contextlib.nullcontext():
            loaded = manager._load_spec(str(file.resolve()) if entry is None and file else spec)
    except UserError:
        raise
    except Exception as error:  # datasets, jinja and yaml raise all kinds
        raise UserError(f"{where}: cannot be loaded ({_line(error)}); check its file and its data") from error
    return loaded if isinstance(loaded, list) else [loaded]


def _config_of(file: Path) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        return dict(load_yaml(file, resolve_func=False))
    except Exception as error:
        raise UserError(f"--tasks {file}: is not a task file ({_line(error)}); correct it") from error


def _folder_of_data(where: str, config: dict[str, Any], file: Path | None) -> Path | None:
    """Where relative `data_files` are meant from: here if they are here, else the folder of the task's file."""
    names = list(_files((config.get("dataset_kwargs") or {}).get("data_files")))
    relative = [name for name in names if not os.path.isabs(name) and "://" not in name]
    local = [name for name in names if "://" not in name and not any(sign in name for sign in "*?[")]
    beside = [name for name in relative if file is not None and (file.resolve().parent / name).is_file()]
    folder = file.resolve().parent if file is not None and beside and not Path(relative[0]).is_file() else None
    for name in local:
        if not ((folder or Path()) / name).is_file():
            raise UserError(f"{where}: its data file {name} is not there; check data_files in {file}")
    return folder


def _files(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _files(part)
    elif isinstance(value, list):
        for part in value:
            yield from _files(part)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (text[:200] or type(error).__name__).rstrip(".")
