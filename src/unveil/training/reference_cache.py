"""The reference cache: a folder of log-probabilities that `unveil reference` writes and training reads.

    cache.json                                   the fingerprint: what the values depend on, part by part
    answers.safetensors                          example_id and digest of the tokens of every answer
    held-out-answers.safetensors                 the same of held-out answers, where there are any
    epoch-0-from-17-1f2e3d4c.safetensors, ...    values (`cache_shards`), whole files only

Kept are log-probabilities of single tokens under single draws, not sums: a value per token serves every combiner,
position weighting and surrogate, and costs a few bytes per token. They are computed answer by answer
(`unveil.likelihood.canonical`), so that a model that is asked in the same way says the same, bit for bit.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from unveil.checksums import checksum
from unveil.errors import UserError, name_rows, warn_user
from unveil.files import read_json, write_bytes, write_json
from unveil.likelihood.digests import digest
from unveil.training.cache_keys import Key
from unveil.training.cache_shards import DamagedShardError, Draws, keys_of_shard, read_shard, shard_name, write_shard
from unveil.training.fingerprint import DRAWS, HELD_OUT_DRAWS, Fingerprint, Part, differences

FILE = "cache.json"
FORMAT = 1
ANSWERS_PER_SHARD = 128
HELD_OUT_EPOCH = -1
_ANSWERS, _HELD_OUT = "answers.safetensors", "held-out-answers.safetensors"
_SHARDS = ("epoch-*.safetensors", "held-out-from-*.safetensors")


class ReferenceCache:
    """Values of answers by `Key`; those of one training epoch (and of held-out answers) are in memory at a time.

    Make one with `open` (to read) or `create` (to add to).
    """

    def __init__(self, folder: Path, fingerprint: Fingerprint, wanted: Fingerprint, flag: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.wanted = wanted
        self.flag = flag
        self._files: dict[Key, Path] = {}
        self._loaded: dict[int, dict[Key, Draws]] = {}

    @classmethod
    def open(cls, folder: str | Path, fingerprint: Fingerprint, flag: str = "--ref_cache") -> "ReferenceCache":
        """The cache in a folder, for a run of this fingerprint.

        Raises:
            UserError: there is none, it was made for another run (all parts that differ are named), or a file of it
                is damaged.
        """
        found = _read_fingerprint(Path(folder), flag)
        _refuse(differences(found, fingerprint), folder, flag)
        if fingerprint.held_out and not found.held_out:
            raise UserError(
                f"{flag} {folder}: holds no held-out answers, and this run evaluates; run `unveil reference` again "
                "with the flags of the cache and --eval_dataset_name (it computes only what is missing)"
            )
        cache = cls(Path(folder), found, fingerprint, flag)
        for path in cache._shards():
            try:
                cache._index(path)
            except DamagedShardError as error:
                raise UserError(
                    f"{flag} {error}; run `unveil reference` again with the flags of the cache: it computes that part "
                    "anew"
                ) from error
        return cache

    @classmethod
    def create(cls, folder: str | Path, fingerprint: Fingerprint, flag: str = "--output_dir") -> "ReferenceCache":
        """The cache in a folder, to add values to: a new one, or one that was begun with the same fingerprint.

        Left-overs of a process that was killed are removed, damaged files with a warning.
        """
        folder = Path(folder)
        require_cache_or_free(folder, flag)
        if not (folder / FILE).is_file():
            _write_fingerprint(folder, fingerprint)
            return cls(folder, fingerprint, fingerprint, flag)
        found = _read_fingerprint(folder, flag)
        _refuse(differences(found, fingerprint), folder, flag)
        if fingerprint.held_out and not found.held_out:
            found = found.with_held_out(fingerprint)
            _write_fingerprint(folder, found)
        cache = cls(folder, found, fingerprint, flag)
        for path in folder.glob(".*.safetensors.*"):
            path.unlink(missing_ok=True)
        for path in cache._shards():
            try:
                cache._index(path)
            except DamagedShardError as error:
                path.unlink()
                warn_user(f"{error}; it is computed anew")
        return cache

    def __contains__(self, key: Key) -> bool:
        return key in self._files

    @property
    def epochs(self) -> list[int]:
        """The training epochs of which there are values."""
        return sorted({key.epoch for key in self._files if key.epoch != HELD_OUT_EPOCH})

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """The keys without values, in their order."""
        return [key for key in keys if key not in self._files]

    def require(self, keys: Iterable[Key]) -> None:
        """Refuse a run for which values are missing, saying which.

        Raises:
            UserError: epochs are missing, or the computation was not finished.
        """
        lacking = self.missing(keys)
        if not lacking:
            return
        where, again = f"{self.flag} {self.folder}", "run `unveil reference` again with the flags of the cache"
        there = {key.epoch for key in self._files}
        absent = sorted({key.epoch for key in lacking} - there - {HELD_OUT_EPOCH})
        if absent and there - {HELD_OUT_EPOCH}:
            raise UserError(
                f"{where}: holds the draws of epoch {name_rows(self.epochs)}, and this run needs epoch "
                f"{name_rows(absent)} too; {again} and --num_train_epochs {max(absent) + 1} (it computes only what is "
                "missing), or train with --draws fixed"
            )
        rows = sorted({key.example_id for key in lacking})
        raise UserError(
            f"{where}: is not finished, values of {len(lacking)} answers are missing (row {name_rows(rows)}); {again}: "
            "it goes on where it stopped"
        )

    def append(self, keys: Sequence[Key], values: Sequence[Draws]) -> None:
        """Write the values of some answers, all of one epoch, as one file."""
        path = self.folder / shard_name(keys)
        write_shard(path, self.fingerprint.identity, dict(zip(keys, values, strict=True)))
        self._files.update(dict.fromkeys(keys, path))
        self._loaded.pop(keys[0].epoch, None)

    def log_probs(self, key: Key) -> Draws:
        """log p of the hidden tokens of every draw that the run asked for, nats.

        Raises:
            UserError: there are none.
        """
        if key not in self._files:
            self.require([key])
        if key.epoch not in self._loaded:
            self._loaded = {epoch: part for epoch, part in self._loaded.items() if epoch == HELD_OUT_EPOCH}
            self._loaded[key.epoch] = self._load(key.epoch)
        part = HELD_OUT_DRAWS if key.epoch == HELD_OUT_EPOCH else DRAWS
        there, here = (known.parts[part].content["num_draws"] for known in (self.fingerprint, self.wanted))
        draws = self._loaded[key.epoch][key]
        return draws if there == here else draws[:here]

    def values(self, key: Key) -> torch.Tensor:
        """`S(M)` of every draw, `[K]` nats: the plain sums."""
        return torch.stack([log_p.sum() for log_p in self.log_probs(key)])

    def _load(self, epoch: int) -> dict[Key, Draws]:
        found: dict[Key, Draws] = {}
        for path in sorted({path for key, path in self._files.items() if key.epoch == epoch}):
            found |= read_shard(path, self.fingerprint.identity)
        return found

    def _index(self, path: Path) -> None:
        self._files.update(dict.fromkeys(keys_of_shard(path, self.fingerprint.identity), path))

    def _shards(self) -> list[Path]:
        return sorted(path for pattern in _SHARDS for path in self.folder.glob(pattern))


def fill(
    cache: ReferenceCache,
    keys: Iterable[Key],
    compute: Callable[[Sequence[Key]], Sequence[Draws]],
    share: int = 0,
    shares: int = 1,
) -> int:
    """Compute and append what is missing; returns the number of answers computed.

    Keys are cut into files in one fixed way, so that the files do not depend on where an earlier run stopped, nor on
    how many processes share the work.

    Args:
        cache: from `ReferenceCache.create`.
        keys: all that the cache shall hold.
        compute: values of some keys.
        share: which of `shares` processes this is.
        shares: how many share the work.
    """
    count = 0
    for number, part in enumerate(parts_of(keys)):
        if number % shares == share and cache.missing(part):
            cache.append(part, compute(part))
            count += len(part)
    return count


def parts_of(keys: Iterable[Key]) -> list[list[Key]]:
    """The keys of each file."""
    found = []
    for _, members in groupby(sorted(set(keys)), key=lambda key: key.epoch):
        of_epoch = list(members)
        starts = range(0, len(of_epoch), ANSWERS_PER_SHARD)
        found += [of_epoch[start : start + ANSWERS_PER_SHARD] for start in starts]
    return found


def _refuse(found: list[str], folder: str | Path, flag: str) -> None:
    if not found:
        return
    remedy = (
        "give the flags that it was made with, or another folder"
        if flag == "--output_dir"
        else "make a cache for this run in another folder with `unveil reference`, or use what this one was made with"
    )
    raise UserError(f"{flag} {folder}: was made for another run and differs in {', '.join(found)}; {remedy}")


def require_cache_or_free(folder: Path, flag: str = "--output_dir") -> None:
    """Refuse a folder that holds anything but a cache, or one that was about to be begun."""
    if folder.is_file():
        raise UserError(f"{flag} {folder}: is a file, a folder is needed; give another name")
    if not folder.is_dir() or (folder / FILE).is_file():
        return
    if any(not path.name.startswith(".") and path.name not in (_ANSWERS, _HELD_OUT) for path in folder.iterdir()):
        raise UserError(f"{flag} {folder}: holds something that is no reference cache; give another folder")


def remove_cache(folder: Path) -> None:
    """Remove the files of a cache, and nothing else; `cache.json` first, so that the rest is no cache."""
    (folder / FILE).unlink(missing_ok=True)
    for path in [path for pattern in _SHARDS for path in folder.glob(pattern)]:
        path.unlink(missing_ok=True)
    for name in (_ANSWERS, _HELD_OUT):
        (folder / name).unlink(missing_ok=True)


def _read_fingerprint(folder: Path, flag: str) -> Fingerprint:
    file, where = folder / FILE, f"{flag} {folder}"
    if not folder.exists():
        raise UserError(f"{where}: there is no such folder; make the cache with `unveil reference`")
    if not file.is_file():
        raise UserError(
            f"{where}: is no reference cache (it has no {FILE}); give the --output_dir of `unveil reference`"
        )
    try:
        found: dict[str, Any] = read_json(file)
        version = found["format"]
        # Caches of earlier versions have no checksum.
        if "checksum" in found and found["checksum"] != digest([found["parts"], found["files"]]):
            raise ValueError("it is not what was written")
        parts = {name: Part(part["digest"], part["content"]) for name, part in found["parts"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{where}: {FILE} cannot be read; remove the folder and run `unveil reference` again"
        ) from error
    if version != FORMAT:
        raise UserError(f"{where}: has format {version}, and {FORMAT} is read here; make the cache anew elsewhere")
    sums = found.get("files", {})
    held_out = _read_answers(folder / _HELD_OUT, where, sums) if HELD_OUT_DRAWS in parts else {}
    return Fingerprint(parts, _read_answers(folder / _ANSWERS, where, sums), held_out)


def _write_fingerprint(folder: Path, fingerprint: Fingerprint) -> None:
    """The answers first: a folder with `cache.json` is whole."""
    _write_answers(folder / _ANSWERS, fingerprint.answers)
    if fingerprint.held_out:
        _write_answers(folder / _HELD_OUT, fingerprint.held_out)
    parts = {name: {"digest": part.digest, "content": dict(part.content)} for name, part in fingerprint.parts.items()}
    files = {name: checksum(folder / name) for name in (_ANSWERS, _HELD_OUT) if (folder / name).is_file()}
    write_json(folder / FILE, {"format": FORMAT, "parts": parts, "files": files, "checksum": digest([parts, files])})


def _write_answers(path: Path, answers: Mapping[int, str]) -> None:
    ids = sorted(answers)
    digests = [list(bytes.fromhex(answers[example_id])) for example_id in ids]
    write_bytes(path, save({"example_ids": torch.tensor(ids), "digests": torch.tensor(digests, dtype=torch.uint8)}))


def _read_answers(path: Path, where: str, sums: Mapping[str, str]) -> dict[int, str]:
    try:
        if path.name in sums and checksum(path) != sums[path.name]:
            raise ValueError("it is not what was written")
        tensors = load_file(path)
        digests = [bytes(row).hex() for row in tensors["digests"].tolist()]
        return dict(zip(tensors["example_ids"].tolist(), digests, strict=True))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{where}: {path.name} is missing or cut, or not what was written; remove the folder and run `unveil "
            "reference` again"
        ) from error
