"""A disk that loses what was not forced to it: replays what a folder holds if the power goes at any moment.

`Disk.watching(folder)` notes, whenever the program calls `os.fsync`, what is safe from then on: of a file its content,
of a folder its names. Before and after every change of names (`rename`, `replace`, `unlink`, `rmdir`) and every
`fsync`, a power cut is played in two ways, between which file systems differ:

    late names    names that were not forced to the disk are the old ones
    early names   names are those of the moment, while the data of files that were not forced are gone (ext4, XFS)
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHANGES = ("fsync", "rename", "replace", "unlink", "remove", "rmdir")


class Disk:
    """What of a folder is safe at this moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content: dict[int, bytes] = {}
        self.names: dict[int, dict[str, tuple[int, bool]]] = {}
        self._kept: dict[int, int] = {}  # open handles: a number is not given to another file
        self.moments = 0
        self._looking = False
        for inside, _, files in os.walk(folder):  # what is there already is safe
            self._forced(inside)
            for name in files:
                self._forced(os.path.join(inside, name))

    @classmethod
    @contextmanager
    def watching(cls, folder: Path, at_every_moment: Callable[["Disk"], None]) -> Iterator["Disk"]:
        """Call `at_every_moment(disk)` around every change that the body makes below `folder`."""
        disk = cls(folder)
        with pytest.MonkeyPatch.context() as patch:
            for name in CHANGES:
                patch.setattr(os, name, disk._watched(getattr(os, name), name, at_every_moment))
            try:
                yield disk
            finally:
                for handle in disk._kept.values():
                    os.close(handle)

    def _watched(self, original: Callable, name: str, at_every_moment: Callable[["Disk"], None]) -> Callable:
        def call(*args, **kwargs):
            if self._looking:
                return original(*args, **kwargs)
            self._looking = True
            try:
                self.moments += 1
                at_every_moment(self)
                result = original(*args, **kwargs)
                if name == "fsync":
                    self._forced(args[0])
                at_every_moment(self)
            finally:
                self._looking = False
            return result

        return call

    def _forced(self, what: int | str) -> None:
        """`fsync` of an open file or folder."""
        found = os.stat(what)
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else what
        if found.st_ino not in self._kept:
            self._kept[found.st_ino] = os.open(path, os.O_RDONLY)
        if os.path.isdir(path):
            self.names[found.st_ino] = {entry.name: (entry.inode(), entry.is_dir()) for entry in os.scandir(path)}
        else:
            self.content[found.st_ino] = Path(path).read_bytes()

    def after_a_power_cut(self, into: Path, early_names: bool) -> Path:
        """What the machine finds when the power is back."""
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        if early_names:
            for inside, folders, files in os.walk(self.folder):
                there = into / os.path.relpath(inside, self.folder)
                for name in folders:
                    (there / name).mkdir()
                for name in files:
                    number = os.stat(os.path.join(inside, name)).st_ino
                    (there / name).write_bytes(self.content.get(number, b""))
        else:
            self._fill(into, self.folder.stat().st_ino)
        return into

    def _fill(self, into: Path, number: int) -> None:
        for name, (inode, is_folder) in self.names.get(number, {}).items():
            if is_folder:
                (into / name).mkdir()
                self._fill(into / name, inode)
            else:
                (into / name).write_bytes(self.content.get(inode, b""))
