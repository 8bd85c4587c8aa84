"""Files that a person names: their text, or one line that says why not."""

import os

import pytest

from unveil.errors import UserError
from unveil.small_files import MOST_BYTES, read_small_text


def test_text_comes_back_without_a_byte_order_mark(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfone: \xc3\xa9\n")
    assert read_small_text(tmp_path / "a", "--config a") == "one: é\n"


def test_a_pipe_is_read():
    reader, writer = os.pipe()
    os.write(writer, b"beta: 1\n")
    os.close(writer)
    assert read_small_text(f"/dev/fd/{reader}", "--config") == "beta: 1\n"
    os.close(reader)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone", "No such file"),
        (".", "Is a directory"),
        ("latin", "not UTF-8 text"),
        ("a\0b", "null"),
        ("large", "MiB"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path, name, reason):
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(UserError, match=f"^--config x: cannot be read .*{reason}.*; check the path$") as found:
        read_small_text(tmp_path / name, "--config x")
    assert "\n" not in str(found.value)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device here")
def test_a_device_without_an_end_is_refused():
    with pytest.raises(UserError, match="more than 16 MiB"):
        read_small_text("/dev/zero", "--config")
