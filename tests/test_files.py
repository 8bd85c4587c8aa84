"""What is written is whole, stays whole through a power cut, and has the mode that the umask says."""

import errno
import os
from pathlib import Path

import pytest
from power_cuts import Disk

from unveil import files
from unveil.errors import UserError


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


@pytest.fixture
def umask():
    """`umask(0o077)` for the rest of a test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("early_names", [True, False], ids=["early names", "late names"])
def test_a_power_cut_while_a_file_is_written_leaves_the_old_or_the_new_one(tmp_path, early_names):
    disk_folder, after = tmp_path / "disk", tmp_path / "after"
    disk_folder.mkdir()
    files.write_bytes(disk_folder / "x", b"old" * 1000)
    seen = []

    def cut(disk):
        seen.append((disk.after_a_power_cut(after, early_names) / "x").read_bytes())

    with Disk.watching(disk_folder, cut) as disk:
        files.write_bytes(disk_folder / "x", b"new" * 1000)
    assert disk.moments >= 3
    assert set(seen) == {b"old" * 1000, b"new" * 1000}
    assert seen[-1] == b"new" * 1000, "what was returned from is on the disk"


@pytest.mark.parametrize("early_names", [True, False], ids=["early names", "late names"])
def test_a_power_cut_while_a_folder_is_replaced_leaves_the_old_or_the_new_one(tmp_path, early_names):
    """Whoever looks first calls `recover_folder`."""
    disk_folder, after = tmp_path / "disk", tmp_path / "after"
    old, new = {"a": b"1" * 50, "b": b"2" * 50}, {"a": b"3" * 50, "c": b"4" * 50}
    disk_folder.mkdir()
    with files.replace_folder(disk_folder / "x") as made:
        for name, data in old.items():
            (made / name).write_bytes(data)
    seen = []

    def cut(disk):
        files.recover_folder(disk.after_a_power_cut(after, early_names) / "x")
        seen.append(content(after / "x"))

    with Disk.watching(disk_folder, cut), files.replace_folder(disk_folder / "x") as made:
        for name, data in new.items():
            (made / name).write_bytes(data)
    assert all(found in (old, new) for found in seen)
    assert seen[-1] == new
    assert [path.name for path in disk_folder.iterdir()] == ["x"]


def test_a_power_cut_loses_no_line_that_was_appended(tmp_path):
    disk_folder, after = tmp_path / "disk", tmp_path / "after"
    disk_folder.mkdir()
    with Disk.watching(disk_folder, lambda disk: None) as disk:
        for text in ("one\n", "two\n"):
            files.append_text(disk_folder / "x", text)
            for early in (True, False):
                found = disk.after_a_power_cut(after, early) / "x"
                assert found.read_text().endswith(text)


def test_the_fake_disk_loses_what_was_not_forced_to_it(tmp_path):
    """Else the tests above would show nothing."""
    disk_folder, after = tmp_path / "disk", tmp_path / "after"
    disk_folder.mkdir()
    with Disk.watching(disk_folder, lambda disk: None) as disk:
        (disk_folder / "x").write_bytes(b"data")
        os.replace(disk_folder / "x", disk_folder / "y")
        assert content(disk.after_a_power_cut(after, early_names=True)) == {"y": b""}
        assert content(disk.after_a_power_cut(after, early_names=False)) == {}


def test_a_half_line_is_found_and_cut_off_before_the_next_is_appended(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"one\ntwo\nthr")
    assert files.read_whole_lines(file) == ([b"one", b"two"], True)
    assert files.read_whole_lines(file, mend=True) == ([b"one", b"two"], True)
    files.append_text(file, "three\n")
    assert files.read_whole_lines(file) == ([b"one", b"two", b"three"], False)
    file.write_bytes(b"thr")
    assert files.read_whole_lines(file, mend=True) == ([], True)
    assert file.read_bytes() == b""


def test_lines_that_do_not_fit_on_the_disk_are_taken_back_whole(tmp_path, monkeypatch):
    file = tmp_path / "x"
    files.append_text(file, "one\n")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as told:
            files.append_text(file, "two\n")
        assert told.value.filename == str(file)
        with pytest.raises(OSError, match="No space left") as told:
            files.write_text(file, "other")
        assert told.value.filename == str(file)
    assert file.read_text() == "one\n"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o027])
def test_files_and_folders_obey_the_umask(tmp_path, umask, mask):
    umask(mask)
    files.write_text(tmp_path / "a" / "x", "text")
    files.append_text(tmp_path / "y", "text\n")
    with files.replace_folder(tmp_path / "f") as folder:
        (folder / "w").write_text("text")
        (folder / "w").chmod(0o600)  # as safetensors does
    for file in ("a/x", "y", "f/w"):
        assert (tmp_path / file).stat().st_mode & 0o777 == 0o666 & ~mask, file
    for made in ("a", "f"):
        assert (tmp_path / made).stat().st_mode & 0o777 == 0o777 & ~mask, made


def test_a_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "x")
    files.write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "x").read_text() == "text"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file/x", "is no folder"),
        ("file/deep/er/x", "is no folder"),
        ("nowhere/x", "is a link to nothing"),
        ("/proc/x", "nothing can be written in /proc"),
        ("n" * 300, "cannot be used"),
        ("a\0b", "cannot be used"),
        ("loop/x", "cannot be used"),
    ],
)
def test_a_place_where_nothing_can_be_is_refused_and_nothing_is_made(tmp_path, monkeypatch, place, reason):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("nowhere").symlink_to("gone")
    Path("loop").symlink_to("loop")
    if place.startswith("/proc") and os.access("/proc", os.W_OK):
        monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may, as far as this system tells
    before = sorted(os.listdir())
    for require in (files.require_place_for_file, files.require_place_for_folder):
        with pytest.raises(UserError, match=reason) as told:
            require(place, "--flag")
        assert str(told.value).startswith("--flag ")
    assert sorted(os.listdir()) == before


def test_a_folder_is_no_place_for_a_file_and_a_device_is_none_for_either(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a folder, a file is needed"):
        files.require_place_for_file(tmp_path)
    with pytest.raises(UserError, match="is a file, a folder is needed"):
        files.require_place_for_folder(tmp_path / "file")
    with pytest.raises(UserError, match="no regular file"):
        files.require_place_for_file("/dev/null")


@pytest.mark.parametrize("name", [".", "..", "/", "a/.."])
def test_a_folder_without_a_name_of_its_own_has_nothing_to_recover(tmp_path, monkeypatch, name):
    (tmp_path / "inside" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "inside")
    files.recover_folder(Path(name))
    assert (tmp_path / "inside" / "a").is_dir()


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(tmp_path / "pipe", "text")
    assert os.read(reader, 10) == b"text"
    assert (tmp_path / "pipe").is_fifo()
    os.close(reader)
