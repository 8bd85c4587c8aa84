"""Read the small text files that a person gives by name: settings, templates, schemas."""

from pathlib import Path

from unveil.errors import UserError

# No settings file comes near; a device, or weights given by mistake, go beyond.
MOST_BYTES = 16 * 2**20


def read_small_text(path: str | Path, where: str, remedy: str = "check the path") -> str:
    """Return the text of a file.

    Args:
        path: its name; a pipe will do.
        where: how it was given, as a message begins: `--config run.yaml`.
        remedy: what to do, as a message ends.

    Raises:
        UserError: it cannot be read, is no UTF-8 text, or holds more than 16 MiB.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise UserError(f"{where}: cannot be read (more than {MOST_BYTES // 2**20} MiB); {remedy}")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: cannot be read (not UTF-8 text); {remedy}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{where}: cannot be read ({getattr(error, 'strerror', None) or error}); {remedy}") from error
