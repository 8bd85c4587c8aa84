"""What the user gave as data set: a hub name, a local file, a local folder, or rows already in memory.

Local files are read straight into memory. Nothing is written to the cache of `datasets`, and the fingerprint of
the result depends on its content alone, so a changed file can never be answered from an old cache.
"""

import re
from pathlib import Path
from typing import NoReturn

import datasets
import pyarrow as pa
from datasets import Dataset, DatasetDict
from datasets.exceptions import DatasetNotFoundError

from unveil.data.local_files import EXTENSIONS, read_file
from unveil.errors import UserError

_SHARD = re.compile(r"(?P<split>.+)-\d{5}-of-\d{5}")


def load_rows(
    dataset_name: str | Path | Dataset | DatasetDict,
    split: str = "train",
    config: str | None = None,
    flag: str = "--dataset_name",
) -> Dataset:
    """Rows of one split.

    `dataset_name`: a name on the Hugging Face hub; a .jsonl, .json, .parquet or .csv file (it is the split
    "train"); a folder with one such file per split (`train.jsonl`, `test-00000-of-00002.parquet`; a folder written
    by `Dataset.save_to_disk` works too); or a `Dataset`, which passes through (a `DatasetDict` gives its `split`).
    What exists on disk wins over a hub name. `split` may be sliced as everywhere in `datasets`: `train[:10%]`,
    `train+test`. `config` names a configuration on the hub, or a subfolder of a local folder. `flag` is named in
    errors. Raises `UserError` when there is nothing to read or nothing in it.
    """
    if isinstance(dataset_name, Dataset):
        rows = dataset_name
    elif isinstance(dataset_name, DatasetDict):
        rows = _pick({str(name): rows for name, rows in dataset_name.items()}, split, flag)
    elif isinstance(dataset_name, str | Path):
        rows = _load_named(dataset_name, split, config, flag)
    else:
        raise UserError(
            f"{flag}: a {type(dataset_name).__name__} is not a data set that unveil reads; "
            f"give a name, a path or a datasets.Dataset (streaming is not supported)"
        )
    if len(rows) == 0:
        shown = dataset_name if isinstance(dataset_name, str | Path) else type(dataset_name).__name__
        raise UserError(f"{flag} {shown}: split {split!r} has no rows; give a data set with at least one row")
    return rows


def _load_named(name: str | Path, split: str, config: str | None, flag: str) -> Dataset:
    path = Path(name).expanduser()
    where = f"{flag} {name}"
    if path.is_file():
        if config is not None:
            raise UserError(f"{where}: a file has no configuration {config!r}; leave --dataset_config out")
        return _read_split({"train": [path]}, split, where)
    if path.is_dir():
        return _load_folder(path, split, config, where)
    if _looks_like_a_path(str(name)):
        raise UserError(f"{where}: there is no such file or folder in {Path.cwd()}; check the spelling")
    return _load_from_hub(str(name), split, config, where)


def _looks_like_a_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or name.lower().endswith(EXTENSIONS)


def _load_folder(folder: Path, split: str, config: str | None, where: str) -> Dataset:
    if config is not None:
        folder = folder / config
        if not folder.is_dir():
            raise UserError(f"{where}: there is no subfolder {config!r} in it; correct --dataset_config")
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        saved = datasets.load_from_disk(str(folder))
        splits = dict(saved.items()) if isinstance(saved, DatasetDict) else {"train": saved}
        return _pick({str(name): rows for name, rows in splits.items()}, split, where)
    files: dict[str, list[Path]] = {}
    for path in _data_files(folder) or _data_files(folder / "data"):
        shard = _SHARD.fullmatch(path.stem)
        files.setdefault(shard["split"] if shard else path.stem, []).append(path)
    if not files:
        raise UserError(f"{where}: no {', '.join(EXTENSIONS)} file in this folder; give one file per split")
    return _read_split(files, split, where)


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in EXTENSIONS)


def _read_split(files: dict[str, list[Path]], split: str, where: str) -> Dataset:
    """Read only the files that `split` names."""
    wanted = {part.strip().split("[")[0] for part in split.split("+")}
    if split in files:
        wanted = {split}
    if missing := wanted - set(files):
        _no_such_split(", ".join(sorted(missing)), list(files), where)
    loaded = {}
    for name in wanted:
        tables = [read_file(path) for path in files[name]]
        try:
            loaded[name] = Dataset(pa.concat_tables(tables, promote_options="default"))
        except (pa.ArrowException, ValueError, NotImplementedError) as error:
            shown = ", ".join(path.name for path in files[name])
            reason = str(error).split("\n")[0]
            raise UserError(f"{where}: {shown} do not make one table ({reason}); give columns one type") from error
    return _pick(loaded, split, where)


def _pick(splits: dict[str, Dataset], split: str, where: str) -> Dataset:
    if split in splits:
        return splits[split]
    try:
        spec = datasets.ReadInstruction.from_spec(split)
        parts = spec.to_absolute({name: len(rows) for name, rows in splits.items()})
    except ValueError:
        _no_such_split(split, list(splits), where)
    chosen = [splits[part.splitname].select(list(range(part.from_, part.to))) for part in parts]
    return datasets.concatenate_datasets(chosen) if len(chosen) > 1 else chosen[0]


def _no_such_split(split: str, existing: list[str], where: str) -> NoReturn:
    raise UserError(f"{where}: no split {split!r}; choose from {', '.join(sorted(existing))}")


def _load_from_hub(name: str, split: str, config: str | None, where: str) -> Dataset:
    try:
        rows = datasets.load_dataset(name, config, split=split)
    except DatasetNotFoundError as error:
        raise UserError(
            f"{where}: no such data set on the hub, and no file or folder of that name in {Path.cwd()}; "
            f"check the spelling, or log in if it is private"
        ) from error
    except ConnectionError as error:
        raise UserError(
            f"{where}: the hub cannot be reached, and no file or folder of that name is in {Path.cwd()}; "
            f"connect, or give a local file"
        ) from error
    except Exception as error:  # the boundary to a large library: unknown split or configuration, broken files ...
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"{where}: the data set cannot be loaded ({reason}); "
            f"correct the name, the split ({split}) or --dataset_config ({config})"
        ) from error
    if not isinstance(rows, Dataset):
        raise UserError(f"{where}: split {split!r} is not one table of rows; name one split")
    return rows
