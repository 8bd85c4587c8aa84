"""YAML as people write it: numbers are numbers, `no` is text, and nothing unfolds without end."""

import pytest

from unveil.errors import UserError
from unveil.yaml_files import read_yaml


@pytest.fixture
def read(tmp_path):
    def read(text: str):
        path = tmp_path / "a.yaml"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return read_yaml(path, "--config")

    return read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("Off", "Off"), ("yes", "yes"), ("true", True), ("False", False), ("null", None), ("~", None),
        ("1e-7", 1e-7), ("1E5", 1e5), ("-1.5e+3", -1.5e3), (".5", 0.5), ("5.", 5.0), ("12", 12), ("-3", -3),
        ("0x1F", 31), ("0o17", 15), ("010", 10), ("1:30", "1:30"), ("2026-01-01", "2026-01-01"), ("1e", "1e"),
        ("1_000", "1_000"), ("'1e-7'", "1e-7"), ('"no"', "no"), (".inf", float("inf")), ("-.inf", -float("inf")),
        ("=", "="), ("1.2.3", "1.2.3"), (".", "."), ("e5", "e5"), ("+", "+"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2_at_every_depth(read, text, value):
    assert read(f"a: {{b: [{text}]}}")["a"]["b"] == [value]
    assert read(f"a:\n- {text}\n") == {"a": [value]}


def test_a_value_keeps_its_kind(read):
    found = read("a: 1e-7\nb: 1\nc: 'true'\nd: true\n")
    assert [type(found[key]) for key in "abcd"] == [float, int, str, bool]


def test_an_empty_file_holds_nothing(read):
    assert read("") is None
    assert read("# only words\n") is None


def test_a_merged_mapping_may_be_overridden(read):
    assert read("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")["b"] == {"x": 1, "y": 3}


LAUGHS = "a: &a [l,l,l,l,l,l,l,l,l]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n" for before, after in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key 'a' stands twice"),
        ("x: {a: 1, a: 1}\n", "the key 'a' stands twice"),
        ("? [1, 2]\n: 3\n", "a key must be plain text"),
        ("a: &a {x: *a}\n", "a value contains itself"),
        ("a: &a [*a]\n", "a value contains itself"),
        (LAUGHS, "unfold to more than 100000 values"),
        ("a: " + "[" * 60 + "]" * 60, "nested too deeply"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "9" * 5000, "a number of over 100 digits"),
        ("a: !!python/object/apply:os.system [true]\n", "is not valid YAML"),
        ("a: !!binary aGk=\n", "is not plain data"),
        ("a: !!set {x}\n", "is not plain data"),
        ("a: [1\n", "is not valid YAML"),
        ("\tb: 1", "is not valid YAML"),
        ("a: \udcff", "not UTF-8 text"),
        ("a: 1\n---\nb: 2\n", "is not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_no_settings_file_is_refused_in_one_short_line(read, text, message):
    with pytest.raises(UserError, match=message) as found:
        read(text)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 500


@pytest.mark.parametrize("name", ["gone.yaml", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path / name, "--config")
