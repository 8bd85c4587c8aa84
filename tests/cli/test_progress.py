"""The bar of a training run: on a terminal, and nowhere else."""

import contextlib
import os
import pty
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def terminal(monkeypatch) -> Iterator[list[bytes]]:
    """stderr is a pseudo-terminal; the list fills with what arrives there, and is whole at the end."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def read():
        with contextlib.suppress(OSError):  # the other end was closed
            while part := os.read(ours, 4096):
                shown.append(part)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with monkeypatch.context() as patch, os.fdopen(theirs, "w") as stream:
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stderr", stream)
        yield shown
    reader.join(timeout=10)
    os.close(ours)


def test_a_terminal_shows_a_bar_of_the_steps(train, monkeypatch):
    with terminal(monkeypatch) as shown:
        assert train().code == 0
    text = b"".join(shown).decode()
    assert "training" in text
    assert "3/3" in text


def test_a_pipe_gets_no_bar(train):
    code, out, err = train()
    assert (code, err) == (0, "")
    assert "3/3" not in out


def test_disable_tqdm_takes_the_bar_away(train, monkeypatch):
    with terminal(monkeypatch) as shown:
        assert train("--disable_tqdm", "True").code == 0
    assert b"training" not in b"".join(shown)
