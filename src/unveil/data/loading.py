"""What the user gave as data set: a hub name, a local file, a local folder, or rows already in memory.

Local files are read straight into memory. Nothing is written to the cache of `datasets`, and the fingerprint of
the result depends on its content alone, so a changed file can never be answered from an old cache.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

import datasets
import pyarrow as pa
from datasets import Dataset, DatasetDict
from datasets.exceptions import DatasetNotFoundError

from unveil.data.bad_rows import OnBadRows
from unveil.data.local_files import EXTENSIONS, read_file
from unveil.errors import UserError, first_line, name_rows, name_some, shortened
from unveil.hub import hub_is_offline

# `train-00000-of-00002`, also with the digest that the hub's older files have behind it.
_SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?:-[0-9a-f]{16})?")


def load_rows(
    dataset_name: str | Path | Dataset | DatasetDict,
    split: str | None = None,
    config: str | None = None,
    flag: str = "--dataset_name",
    *,
    on_bad_rows: OnBadRows = "error",
    column_map: Mapping[str, str] | None = None,
    label_map: Mapping[str, bool] | None = None,
) -> Dataset:
    """Rows of one split.

    `dataset_name`: a name on the Hugging Face hub; a .jsonl, .json, .parquet or .csv file (it is the split
    "train", and also the one that its name says, as in a folder); a folder with one such file per split
    (`train.jsonl`, `test-00000-of-00002.parquet`; a folder written by `Dataset.save_to_disk` works too); or a
    `Dataset`, which passes through (a `DatasetDict` gives its `split`). What exists on disk wins over a hub name.
    `split` may be sliced as everywhere in `datasets`: `train[:10%]`, `train[:5]+train[-5:]`; None is "train".
    `config` names a configuration on the hub, or a subfolder of a local folder. `flag` is named in errors.

    With `on_bad_rows="drop"` rows of a local file that cannot be read keep their place, marked, and are counted and
    left out by what reads the rows next (`unpaired_rows`, `pair_rows`, ...), to which `column_map` and `label_map` go
    too: a column that they name may be of several types.

    Raises `UserError` when there is nothing to read or nothing in it.
    """
    split = split or "train"
    if isinstance(dataset_name, Dataset):
        rows = dataset_name
    elif isinstance(dataset_name, DatasetDict):
        rows = _pick({str(name): rows for name, rows in dataset_name.items()}, split, flag)
    elif isinstance(dataset_name, str | Path):
        reading = _Reading(on_bad_rows == "drop", column_map, label_map)
        rows = _load_named(dataset_name, split, config, flag, reading)
    else:
        raise UserError(
            f"{flag}: a {type(dataset_name).__name__} is not a data set that unveil reads; "
            f"give a name, a path or a datasets.Dataset (streaming is not supported)"
        )
    if len(rows) == 0:
        called = dataset_name if isinstance(dataset_name, str | Path) else type(dataset_name).__name__
        raise UserError(f"{flag} {called}: split {split!r} has no rows; give a data set with at least one row")
    return rows


class _Reading(NamedTuple):
    """How files are read, see `read_file`."""

    keep_unreadable: bool
    column_map: Mapping[str, str] | None
    label_map: Mapping[str, bool] | None


def _load_named(name: str | Path, split: str, config: str | None, flag: str, reading: _Reading) -> Dataset:
    path = Path(name).expanduser()
    where = f"{flag} {name}"
    if path.is_file():
        if config is not None:
            raise UserError(f"{where}: a file has no configuration {config!r}; leave --dataset_config out")
        own = _split_of(path)
        names = {"train": [path]} | ({own: [path]} if own in _named(split) else {})
        return _read_split(names, split, where, reading)
    if path.is_dir():
        return _load_folder(path, split, config, where, reading)
    if _looks_like_a_path(str(name)):
        raise UserError(f"{where}: there is no such file or folder in {Path.cwd()}; check the spelling")
    return _load_from_hub(str(name), split, config, where)


def _looks_like_a_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or name.lower().endswith(EXTENSIONS)


def _load_folder(folder: Path, split: str, config: str | None, where: str, reading: _Reading) -> Dataset:
    if config is not None:
        folder = folder / config
        if not folder.is_dir():
            raise UserError(f"{where}: there is no subfolder {config!r} in it; correct --dataset_config")
    for mark in ("state.json", "dataset_dict.json"):
        if (folder / mark).is_file():
            return _pick(_saved_splits(folder, mark, where), split, where)
    files: dict[str, list[Path]] = {}
    for path in [*_data_files(folder), *_data_files(folder / "data")]:
        files.setdefault(_split_of(path), []).append(path)
    if not files:
        raise UserError(f"{where}: no {', '.join(EXTENSIONS)} file in this folder; give one file per split")
    return _read_split(files, split, where, reading)


def _saved_splits(folder: Path, mark: str, where: str) -> dict[str, Dataset]:
    """What `save_to_disk` of `Dataset` or `DatasetDict` wrote."""
    try:
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:  # the boundary to a large library: files that are missing, cut or of another kind
        raise UserError(
            f"{where}: has a {mark}, as a folder of Dataset.save_to_disk has, and cannot be read as one "
            f"({first_line(error)}); save it again, or remove {mark} if it is something else"
        ) from error
    return {str(name): rows for name, rows in saved.items()} if isinstance(saved, DatasetDict) else {"train": saved}


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in EXTENSIONS)


def _split_of(path: Path) -> str:
    """The split that a file's name says: `train` of train.jsonl and of train-00000-of-00002.parquet."""
    shard = _SHARD.fullmatch(path.stem)
    return shard["split"] if shard else path.stem


def _require_one_copy(files: list[Path], split: str, where: str) -> None:
    """Refuse a split that two files or two sets of shards hold, or whose shards are not all there."""
    if len(files) == 1 and not _SHARD.fullmatch(files[0].stem):
        return
    names = name_some([str(Path(path.parent.name, path.name)) for path in files], 6)
    copies = {(path.parent, path.suffix.lower(), shard and shard["total"]) for path, shard in _shards(files)}
    numbers = [int(shard["number"]) for _, shard in _shards(files) if shard]
    if len(copies) > 1 or len(set(numbers)) < len(files):
        raise UserError(f"{where}: split {split!r} is there more than once ({names}); keep one copy of it")
    total = int(next(iter(copies))[2] or 0)
    missing = [number for number in range(total) if number not in numbers]
    if missing or total < len(files):
        raise UserError(
            f"{where}: split {split!r} has {len(files)} of {total} shards, without number {name_rows(missing)} (from "
            f"0); add what is missing, or name the files otherwise if that is all"
        )


def _shards(files: list[Path]) -> list[tuple[Path, re.Match[str] | None]]:
    return [(path, _SHARD.fullmatch(path.stem)) for path in files]


def _named(split: str) -> set[str]:
    """The splits that a `split` such as `train[:10%]+test` names."""
    return {part.strip().split("[")[0] for part in split.split("+")}


def _read_split(files: dict[str, list[Path]], split: str, where: str, reading: _Reading) -> Dataset:
    """Read only the files that `split` names."""
    wanted = {split} if split in files else _named(split)
    if missing := wanted - set(files):
        _no_such_split(", ".join(sorted(missing)), list(files), where)
    loaded = {}
    for name in wanted:
        _require_one_copy(files[name], name, where)
        tables = [read_file(path, *reading) for path in files[name]]
        try:
            loaded[name] = Dataset(pa.concat_tables(tables, promote_options="default"))
        except (pa.ArrowException, ValueError, NotImplementedError, RecursionError) as error:
            read = name_some((path.name for path in files[name]), 6, quoted=False)
            why = "do not make one table" if len(tables) > 1 else "does not make a table"
            raise UserError(f"{where}: {read} {why} ({first_line(error)}); give columns one type") from error
    return _pick(loaded, split, where)


def _pick(splits: dict[str, Dataset], split: str, where: str) -> Dataset:
    if split in splits:
        return splits[split]
    if missing := _named(split) - set(splits):
        _no_such_split(", ".join(sorted(missing)), list(splits), where)
    try:
        spec = datasets.ReadInstruction.from_spec(split)
        parts = spec.to_absolute({name: len(rows) for name, rows in splits.items()})
    except (ValueError, AssertionError) as error:
        sizes = ", ".join(f"{name} has {len(splits[name])} rows" for name in sorted(_named(split)))
        raise UserError(
            f"{where}: the split {shortened(split)} cannot be taken ({first_line(error)}; {sizes}); write it as in "
            "train[:90%], train[10:20] or train[:5]+train[-5:]"
        ) from error
    chosen = [splits[part.splitname].select(list(range(part.from_, part.to))) for part in parts]
    return datasets.concatenate_datasets(chosen) if len(chosen) > 1 else chosen[0]


def _no_such_split(split: str, existing: list[str], where: str) -> NoReturn:
    raise UserError(f"{where}: no split {split!r}; choose from {name_some(sorted(existing), quoted=False)}")


def _load_from_hub(name: str, split: str, config: str | None, where: str) -> Dataset:
    hub_is_offline()  # then it is said so at once, and not after half a minute of trying
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
        raise UserError(
            f"{where}: the data set cannot be loaded ({first_line(error)}); "
            f"correct the name, the split ({split}) or --dataset_config ({config})"
        ) from error
    if not isinstance(rows, Dataset):
        raise UserError(f"{where}: split {split!r} is not one table of rows; name one split")
    return rows
