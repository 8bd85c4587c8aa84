"""A verifier of structure: the answer is (or holds) JSON that a schema accepts."""

import json
import re
from pathlib import Path
from typing import Any

from unveil.errors import UserError, how_to_install
from unveil.judging.columns import value_of
from unveil.judging.json_in_text import json_values
from unveil.judging.verifier import Check, VerifierJudge
from unveil.small_files import read_small_text

SCHEMAS = ("schema", "json_schema")
_FENCE = re.compile(r"```(?:json)?[ \t]*+(?=\n)|```", re.IGNORECASE)


def schema_judge(path: str | None = None, columns: tuple[str, ...] = SCHEMAS) -> VerifierJudge:
    """The answer's JSON is valid under the schema of a file, or without one under the row's own.

    JSON is looked for as the whole answer, in the last fenced block, or from the first brace or bracket on.

    Raises:
        UserError: jsonschema is not installed, or the schema cannot be read or is none.
    """
    try:
        import jsonschema
        from jsonschema.exceptions import best_match
        from jsonschema.validators import validator_for

        from unveil.judging.schema_patterns import PATTERN_SECONDS, with_patience
    except ImportError as error:
        raise UserError(f"--judge json_schema: needs jsonschema; {how_to_install('judge')}") from error

    def validator(schema: Any, where: str) -> Any:
        try:
            kind: Any = validator_for(schema, default=jsonschema.Draft202012Validator)
            kind.check_schema(schema)
            return with_patience(kind)(schema)
        except (jsonschema.SchemaError, TypeError, AttributeError) as error:
            told = " ".join(str(getattr(error, "message", error)).split())
            raise UserError(f"{where}: is no JSON schema ({told}); correct it") from error

    fixed = None if path is None else validator(_read(path), f"--judge json_schema:{path}")

    def needs(row: dict[str, Any]) -> Any:
        if fixed is not None:
            return fixed
        given = value_of(row, columns, "json_schema")
        return validator(json.loads(given) if isinstance(given, str) else given, "judge json_schema")

    def check(prompt: str, answer: str, row: dict[str, Any]) -> Check:
        schema = needs(row)
        try:
            value = find_json(answer)
        except ValueError:
            return Check(False, "no JSON")
        try:
            fault = best_match(schema.iter_errors(value))
            message = "" if fault is None else " ".join(fault.message.split())
        except TimeoutError:
            return Check(False, f"matching a pattern of the schema took more than {PATTERN_SECONDS:g} s")
        except RecursionError:
            return Check(False, "the JSON is nested too deeply")
        except Exception as error:  # references that lead nowhere, among others
            raise UserError(f"judge json_schema: the schema cannot be used ({' '.join(str(error).split())})") from error
        if fault is None:
            return Check(True)
        return Check(False, f"{fault.json_path}: {message[:120]}")

    name = "json schema" if path is None else f"json schema {Path(path).name}"
    return VerifierJudge(name, check, reads_columns=path is None, needs=needs)


def find_json(text: str) -> Any:
    """The JSON value that a text is or holds. Raises ValueError if there is none."""
    for candidate in (text, *_last_fenced(text)):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    for _, _, value in json_values(text):
        return value
    raise ValueError("no JSON")


def _last_fenced(text: str) -> list[str]:
    """What stands in the last fenced block that is closed, if any."""
    last, begun = [], None
    for fence in _FENCE.finditer(text):
        if begun is not None:
            last, begun = [text[begun : fence.start()]], None
        elif text.startswith("\n", fence.end()):
            begun = fence.end()
    return last


def _read(path: str) -> Any:
    text = read_small_text(path, f"--judge json_schema:{path}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--judge json_schema:{path}: is not JSON ({error}); correct it") from error
