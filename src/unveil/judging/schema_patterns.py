"""JSON schema validators whose patterns give up: a search that takes too long raises TimeoutError."""

from collections.abc import Iterator
from typing import Any

import regex
from jsonschema import ValidationError
from jsonschema.validators import extend

PATTERN_SECONDS = 1.0


def with_patience(kind: Any) -> Any:
    """A validator class like `kind`; its keywords that hold patterns search for at most PATTERN_SECONDS each time."""
    return extend(
        kind,
        {
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "additionalProperties": _additional(kind.VALIDATORS["additionalProperties"]),
        },
    )


def _matches(pattern: str, text: str) -> bool:
    return regex.search(pattern, text, timeout=PATTERN_SECONDS) is not None


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(value, "string") and not _matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(value, "object"):
        for pattern, part in patterns.items():
            for name in [name for name in value if _matches(pattern, name)]:
                yield from validator.descend(value[name], part, path=name, schema_path=pattern)


def _additional(plain: Any) -> Any:
    """`additionalProperties` of the names that no pattern matches, which are left to the library's own."""

    def check(validator: Any, allowed: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        if validator.is_type(value, "object"):
            patterns = schema.get("patternProperties", {})
            rest = {name: part for name, part in value.items() if not any(_matches(p, name) for p in patterns)}
            without = {key: part for key, part in schema.items() if key != "patternProperties"}
            yield from plain(validator, allowed, rest, without)

    return check
