"""A folder that is not as it was written says which of its files is not."""

import pytest

from unveil import checksums
from unveil.errors import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inside").mkdir()
    for name in ("a", "b", "inside/c"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    checksums.write_checksums(tmp_path)
    return tmp_path


def flipped(file, place):
    data = bytearray(file.read_bytes())
    data[place] ^= 64
    file.write_bytes(data)


def test_a_folder_as_written_has_no_damage(folder):
    assert checksums.damage_of(folder) is None
    (folder / ".hidden").touch()
    assert checksums.damage_of(folder) is None, "nothing reads hidden files"


@pytest.mark.parametrize("name", ["a", "inside/c"])
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda file: file.unlink(), "is missing"),
        (lambda file: file.write_bytes(b""), "is cut (0 of "),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "is cut ("),
        (lambda file: file.write_bytes(file.read_bytes() + b"x"), "is too long ("),
        (lambda file: flipped(file, 0), "is not what was written"),
        (lambda file: flipped(file, -1), "is not what was written"),
        (lambda file: file.write_bytes((file.parent / "b").read_bytes().ljust(file.stat().st_size, b"b"))
            if (file.parent / "b").exists() else flipped(file, 5), "is not what was written"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_as_written_is_named(folder, name, damage, told):
    damage(folder / name)
    assert f"{name} {told}" in str(checksums.damage_of(folder))
    with pytest.raises(UserError, match=f"^there: {name} .*; do this$"):
        checksums.require_as_written(folder, "there", "do this")


def test_a_foreign_file_is_named_where_none_may_be(folder):
    (folder / "z.bin").touch()
    assert checksums.damage_of(folder, foreign=True) == "z.bin does not belong there"
    assert checksums.damage_of(folder) is None


def test_only_the_files_that_are_asked_for_are_looked_at(folder):
    flipped(folder / "b", 0)
    assert checksums.damage_of(folder, only=("a", "inside/*")) is None
    assert checksums.damage_of(folder, only=("b*",)) == "b is not what was written"
    checksums.unlist(folder, "b")
    assert checksums.damage_of(folder) is None


def test_every_bit_of_the_list_counts(folder):
    file = folder / checksums.FILE
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        flipped(file, place)
        assert checksums.damage_of(folder) is not None, whole[place : place + 20]
        file.write_bytes(whole)
    for cut in (b"", whole[:-20], b"null", b"{}", b"[" * 100_000):
        file.write_bytes(cut)
        assert checksums.damage_of(folder) == "checksums.json is damaged"
