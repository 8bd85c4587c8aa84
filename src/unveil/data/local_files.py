"""One local file (.jsonl, .json, .parquet, .csv) as an Arrow table, read into memory: no cache, no conversion script.

Every value keeps the type that the file gave it; what has no single type is an error that names the row.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from unveil.data.bad_rows import BadRow
from unveil.data.table import KNOWN_COLUMNS, TEXT_COLUMNS, Faults, kept_columns, to_table, too_deep
from unveil.errors import UserError, first_line, name_some, shortened

EXTENSIONS = (".jsonl", ".json", ".parquet", ".csv")
_BROKEN = "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}unveil:broken"


def read_file(
    path: Path,
    keep_unreadable: bool = False,
    column_map: Mapping[str, str] | None = None,
    label_map: Mapping[str, bool] | None = None,
) -> pa.Table:
    """Rows of one file.

    Rows that cannot be read raise; with `keep_unreadable` they stay, marked in the column
    `unveil.data.columns.UNREADABLE`. `column_map` names what is read under another name, `label_map`
    what labels mean, which may then be of several types.

    Raises `UserError` (unknown extension, broken line with its number, empty file).
    """
    extension = path.suffix.lower()
    if extension not in EXTENSIONS:
        raise UserError(f"{path}: unknown file type {extension or '(none)'}; use one of {', '.join(EXTENSIONS)}")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; give a file with at least one row")
    known = dict(zip(KNOWN_COLUMNS, KNOWN_COLUMNS)) | dict(column_map or {})
    faults = Faults(str(path), keep_unreadable, label_map)
    if extension == ".parquet":
        table = _read_parquet(path)
    elif extension == ".csv":
        table = _read_csv(path, faults)
    else:
        rows = _read_json(path, faults) if extension == ".json" else _read_json_lines(path, faults)
        table = to_table(rows, known, faults)
    if table.num_rows == 0:
        raise UserError(f"{path}: the file has no rows; give a file with at least one row")
    if len(faults) == table.num_rows:
        faults.refuse()
    if extension in (".csv", ".parquet"):
        table = table.select(kept_columns(table.column_names, known, str(path)))
    return faults.mark(table)


def _read_parquet(path: Path) -> pa.Table:
    try:
        table = pyarrow.parquet.read_table(path)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable parquet file ({first_line(error)}); write it again") from error
    return table


def _read_csv(path: Path, faults: Faults) -> pa.Table:
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if not faults.keep:
            line = data[: error.start].count(b"\n") + 1
            raise UserError(
                f"{path}: not a readable CSV file: not UTF-8 text (line {line}, byte {data[error.start]:#04x}); save "
                "the file as UTF-8, or leave such rows out with --on_bad_rows drop"
            ) from error
        text = data.decode("utf-8", errors="surrogateescape")
        text = "".join(_BROKEN if "\udc80" <= letter <= "\udcff" else letter for letter in text)
    _refuse_other_separators(path, text)
    # Types are guessed from one block, so the block is the whole file; text that looks like numbers stays text.
    read = pyarrow.csv.ReadOptions(block_size=max(len(data) * 4, 1), use_threads=False)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    convert = pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in TEXT_COLUMNS})
    try:
        source = pa.BufferReader(text.encode("utf-8"))
        table = pyarrow.csv.read_csv(source, read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowException as error:
        raise UserError(
            f"{path}: not a readable CSV file ({first_line(error)}); quote fields that hold commas or newlines"
        ) from error
    if _BROKEN in text:
        for row, values in enumerate(table.to_pylist()):
            if any(isinstance(value, str) and _BROKEN in value for value in values.values()):
                faults.add(row, BadRow("the line is not UTF-8 text", "save the file as UTF-8"))
    return table


def _refuse_other_separators(path: Path, text: str) -> None:
    """A first line whose names are ours where something else than a comma parts them."""
    first = text.split("\n", 1)[0].strip("\r")
    for separator, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        names = {name.strip().strip('"') for name in first.split(separator)}
        if len(names) > 1 and len(names & set(KNOWN_COLUMNS)) > len(set(first.split(",")) & set(KNOWN_COLUMNS)):
            raise UserError(f"{path}: its columns are parted by {called}, not by commas; save it with commas")


def _read_json_lines(path: Path, faults: Faults) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                rows.append(_object_of(line))
            except BadRow as bad:
                faults.add(len(rows), bad, f"{path}, line {number}")
                rows.append({})
    if len(rows) == 1:
        _refuse_whole_columns(path, rows[0])
    return rows


def _read_json(path: Path, faults: Faults) -> list[dict[str, Any]]:
    """A .json file holds a list of objects; one object per line is accepted too, as in .jsonl."""
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if not data.lstrip().startswith(b"["):
        if data.lstrip().startswith(b"{") and (whole := _one_object(data)) is not None:
            _refuse_whole_columns(path, whole)
            return [whole]
        return _read_json_lines(path, faults)
    try:
        rows = _parse(data)
    except BadRow as bad:
        raise UserError(f"{path}: {bad}; {bad.remedy}") from bad
    for number, row in enumerate(rows):
        try:
            rows[number] = _checked(row, data.count(b"[") + data.count(b"{"), "give a list of objects")
        except BadRow as bad:
            faults.add(number, bad, f"{path}, row {number}")
            rows[number] = {}
    return rows


def _one_object(data: bytes) -> dict[str, Any] | None:
    """A file that is one object over several lines, or None."""
    if b"\n" not in data.strip():
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _refuse_whole_columns(path: Path, row: dict[str, Any]) -> None:
    """One object with a column under each name is how pandas writes a table unless told otherwise."""
    columns = [value for name, value in row.items() if name in KNOWN_COLUMNS]
    if columns and all(isinstance(value, dict) for value in columns) and len({len(value) for value in columns}) == 1:
        raise UserError(
            f"{path}: is one object that holds whole columns ({name_some(row, 5)}), not rows; write it with "
            "to_json(..., orient='records', lines=True)"
        )


def _object_of(line: bytes) -> dict[str, Any]:
    """The object that a line holds, or `BadRow`."""
    return _checked(_parse(line), line.count(b"[") + line.count(b"{"), "write one per line")


def _checked(value: Any, brackets: int, remedy: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRow(f"{shortened(value)} ({type(value).__name__}) is not a JSON object", remedy)
    if too_deep(value, brackets):
        raise BadRow("JSON that is nested too deeply", "flatten it")
    return value


def _parse(data: bytes) -> Any:
    """The JSON value of `data`, or `BadRow`."""
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno} column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise BadRow(f"broken JSON ({error.msg}, {at})", "correct it or write the file again") from error
    except UnicodeDecodeError as error:
        raise BadRow(f"not UTF-8 text ({error.reason})", "save the file as UTF-8") from error
    except RecursionError as error:
        raise BadRow("JSON that is nested too deeply", "flatten it") from error
    except ValueError as error:  # a number of thousands of digits
        raise BadRow("JSON with a number of too many digits", "shorten it") from error
