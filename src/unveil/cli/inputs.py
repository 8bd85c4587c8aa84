"""What a command reads is never what it removes or replaces: looked at before anything is touched."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from unveil.errors import UserError
from unveil.files import read_json

# Flags whose value may name a file or a folder to read, by their names ...
_READ = re.compile(
    r"path|file|folder|dataset|model|against|judge|config|template|cache|checkpoint|include|tokenizer|prompt|runs|"
    r"matrix|deepspeed|peft|schema"
)
# ... but for these: where results go, and names that are no paths though a folder may be called so.
_OTHER = re.compile(
    r"output|_dir$|^run_name$|hub_|_args$|^metric_|^dataset_config$|_split$|revision|^judge_(base_url|vote|device)|"
    r"^judge_(seed|dtype)|_cpu|kwargs"
)
# `reward:FOLDER`, `pretrained=FOLDER,peft=FOLDER`
_PARTS = re.compile(r"[=:,]")
# Reading a folder means such files of it; a page or a picture beside them is nobody's input.
_NOT_READ = (".html", ".md", ".png", ".log", ".svg", ".pdf")
_MOST_FILES = 20_000
# Of models the files at the top are read, so that a run may lie in the folder of its start model; of data all.
_READ_DEEPLY = re.compile(r"dataset|include|runs")


def refuse_to_lose_inputs(
    places: Sequence[str | Path | None], flag: str, argv: Sequence[str], *arguments: Any, own_names: bool = False
) -> None:
    """Refuse outputs at whose place something stands that the command reads.

    Args:
        places: files and folders that the command removes or replaces; a folder stands for all that is in it.
        own_names: files under names of this package's own, which are part of no folder that is read for a model or
            for data.
        flag: the flag that named them.
        argv: the words of the command, for `--config FILE`.
        arguments: the parsed dataclasses; every flag that may name a file or a folder counts, and the base of adapters.

    Raises:
        UserError: naming the flag of the input, and where it is.
    """
    real = [Path(os.path.realpath(place)) for place in places if place is not None and os.path.lexists(place)]
    if not real:
        return
    for name, path in _inputs(argv, arguments):
        for place in real:
            files = () if own_names and not place.is_dir() else _files_of(path, bool(_READ_DEEPLY.search(name)))
            if _stands_at(place, path, files):
                given = name == "model_name_or_path" and str(path) in [getattr(one, name, None) for one in arguments]
                if given and Path(os.path.realpath(path)) == place:
                    raise UserError(f"{flag} {place}: is the folder of the model itself; give another folder")
                raise UserError(
                    f"{flag} {place}: what --{name} reads would be lost ({path} is there); give another place for the "
                    "output"
                )


def _stands_at(place: Path, path: Path, files: Iterable[Path]) -> bool:
    """Whether something that is read at `path`, or one of its files, lies at or in a place, by whatever links."""
    if _is_at_or_in(Path(os.path.realpath(path)), place):
        return True
    folder = place.is_dir()
    return any(_is_at_or_in(file, place) and (folder or file.suffix not in _NOT_READ) for file in files)


def _is_at_or_in(path: Path, place: Path) -> bool:
    return path == place or place in path.parents


def _files_of(folder: Path, deeply: bool) -> Iterator[Path]:
    """The real places of the files of a folder that are read with it."""
    count = 0
    for inside, below, names in os.walk(folder):
        if not deeply:
            below.clear()
        for name in names:
            count += 1
            if count > _MOST_FILES:
                return
            yield Path(os.path.realpath(os.path.join(inside, name)))


def _inputs(argv: Sequence[str], arguments: Sequence[Any]) -> Iterator[tuple[str, Path]]:
    """Flags and the files or folders that they name, where those exist."""
    named = [(field.name, getattr(given, field.name)) for given in arguments for field in fields(given)]
    named = [(name, value) for name, value in named if _may_be_read(name)]
    for word, following in zip(argv, [*argv[1:], ""]):
        if word.split("=")[0] == "--config":
            named.append(("config", word.partition("=")[2] or following))
    for name, value in named:
        for text in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(text, str | Path):
                continue
            for part in dict.fromkeys((str(text), *_PARTS.split(str(text)))):
                yield from ((name, path) for path in _with_bases(part))


def _may_be_read(name: str) -> bool:
    return name == "model_args" or (bool(_READ.search(name)) and not _OTHER.search(name))


def _with_bases(text: str, depth: int = 4) -> Iterator[Path]:
    """The path, if there is one, and the bases of adapters in it."""
    try:
        path = Path(text).expanduser()
        if not text or not path.exists():
            return
    except (OSError, ValueError, RuntimeError):
        return  # a text that is no path
    yield path
    for file, field in (("adapter_config.json", "base_model_name_or_path"), ("base_model.json", "beside")):
        if not depth or not (path / file).is_file():
            continue
        try:
            base = read_json(path / file).get(field)
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(base, str):
            yield from _with_bases(base, depth - 1)
            yield from _with_bases(str(path / base), depth - 1)
