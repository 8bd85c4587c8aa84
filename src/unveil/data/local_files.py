"""One local file (.jsonl, .json, .parquet, .csv) as an Arrow table, read into memory: no cache, no conversion script.

Every value keeps the type that the file gave it; what has no single type is an error that names the row.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from unveil.errors import UserError, warn_user

EXTENSIONS = (".jsonl", ".json", ".parquet", ".csv")
TEXT_COLUMNS = ("prompt", "completion", "chosen", "rejected", "text")
LIST_COLUMNS = ("completions", "scores", "relevance", "rank", "steps", "step_weights", "spans", "response_ids")
NUMBER_COLUMNS = ("score", "score_chosen", "score_rejected", "margin", "weight", "gap")
KNOWN_COLUMNS = (*TEXT_COLUMNS, *LIST_COLUMNS, *NUMBER_COLUMNS, "label", "messages", "example_id")


def read_file(path: Path) -> pa.Table:
    """Rows of one file. Raises `UserError` (unknown extension, broken line with its number, empty file)."""
    extension = path.suffix.lower()
    if extension not in EXTENSIONS:
        raise UserError(f"{path}: unknown file type {extension or '(none)'}; use one of {', '.join(EXTENSIONS)}")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; give a file with at least one row")
    if extension == ".parquet":
        table = _read_parquet(path)
    elif extension == ".csv":
        table = _read_csv(path)
    else:
        table = _to_table(path, _read_json(path) if extension == ".json" else _read_json_lines(path))
    if table.num_rows == 0:
        raise UserError(f"{path}: the file has no rows; give a file with at least one row")
    return table


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pyarrow.parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable parquet file ({_first_line(error)}); write it again") from error


def _read_csv(path: Path) -> pa.Table:
    # Types are guessed from one block, so the block is the whole file; text that looks like numbers stays text.
    read = pyarrow.csv.ReadOptions(block_size=max(path.stat().st_size, 1), use_threads=False)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    convert = pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in TEXT_COLUMNS})
    try:
        return pyarrow.csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowException as error:
        raise UserError(
            f"{path}: not a readable CSV file ({_first_line(error)}); quote fields that hold commas or newlines"
        ) from error


def _read_json_lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            row = _parse(line, f"{path}, line {number}")
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: {_shown(row)} is not a JSON object; write one per line")
            rows.append(row)
    return rows


def _read_json(path: Path) -> list[dict[str, Any]]:
    """A .json file holds a list of objects; one object per line is accepted too, as in .jsonl."""
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if not data.lstrip().startswith(b"["):
        return _read_json_lines(path)
    rows = _parse(data, str(path))
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f"{path}, row {number}: {_shown(row)} is not a JSON object; give a list of objects")
    return rows


def _parse(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno} column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise UserError(f"{where}: broken JSON ({error.msg}, {at}); correct it or write the file again") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 text ({error.reason}); save the file as UTF-8") from error


def _to_table(path: Path, rows: list[dict[str, Any]]) -> pa.Table:
    """Columns in order of first appearance; a key that a row lacks is null there.

    A column of mixed types is an error if this package reads that column, else it is left out with a warning.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            odd = _first_misfit(values)
            message = (
                f"{path}, row {odd} (counted from 0): column {name!r} holds {_shown(values[odd])}, "
                f"which does not fit the rows before it"
            )
            if name in KNOWN_COLUMNS:
                raise UserError(f"{message}; give the column one type") from error
            warn_user(f"{message}; the column is left out", stacklevel=6)
    return pa.table(columns)


def _first_misfit(values: list[Any]) -> int:
    """Smallest i such that `values[: i + 1]` has no Arrow type (bisection: prefixes of good prefixes are good)."""
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        try:
            pa.array(values[: middle + 1])
            low = middle + 1
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            high = middle
    return low


def _shown(value: Any) -> str:
    text = ascii(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
