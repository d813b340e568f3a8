"""YAML as configurations use it: what is read, what is refused, always in one line."""

from pathlib import Path

import pytest

from clapp.errors import ConfigError, UserError
from clapp.system.files import read_mapping
from clapp.system.strict_yaml import dump_yaml, parse_yaml

LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
)
MERGED = """
one: &one {x: 1, y: 2}
two: &two {<<: *one, y: 3}
three: {<<: *two, z: 4}
four: {<<: [*one, {w: 5}]}
"""


def test_merge_keys_and_anchors() -> None:
    assert parse_yaml(MERGED, "f") == {
        "one": {"x": 1, "y": 2},
        "two": {"x": 1, "y": 3},
        "three": {"x": 1, "y": 3, "z": 4},
        "four": {"x": 1, "y": 2, "w": 5},
    }
    shared = parse_yaml("a: &a [1]\nb: *a", "f")
    assert dump_yaml(shared) == "a:\n- 1\nb:\n- 1\n"  # without anchors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 0.001),
        ("1_000", 1000),
        ("0x10", 16),
        ("2024-05-01", "2024-05-01"),
        ("2024-05-01 10:00:00", "2024-05-01 10:00:00"),
        ("'010'", "010"),
        ("1:99", "1:99"),
        ("0", 0),
        ("0.5", 0.5),
        ("-0", 0),
        ("", None),
        ("\ufeff{a: 1}", {"a": 1}),
    ],
)
def test_values(text: str, expected: object) -> None:
    assert parse_yaml(text, "f") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "f, line 2: duplicate key 'a'"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "line 2: duplicate key '<<'"),
        ("b: {<<: 3}", "line 1: << takes a mapping"),
        ("b: {<<: [{a: 1}, 3]}", "line 1: << takes a mapping"),
        ("a: &a {b: *a}", "line 1: this value contains itself"),
        ("a: &a [1, [*a]]", "line 1: this value contains itself"),
        ("a: &a {<<: *a}", "line 1: this value contains itself"),
        ("[" * 200 + "]" * 200, "at most 100 deep"),
        ("[" * 100_000, "at most 100 deep"),
        ("a: " + "{a: " * 3000 + "1" + "}" * 3000, "at most 100 deep"),
        (LAUGHS, "more than 100,000 values"),
        ("x: 1\n2: 3", "line 2: the key 2 is not text; write '2' with quotes"),
        ("true: 3", "the key true is not text"),
        ("~: 3", "the key ~ is not text"),
        ("[1, 2]: 3", "a list or mapping cannot be a key"),
        ("? {a: 1}\n: 3", "a list or mapping cannot be a key"),
        ("a: 010", "line 1: 010 means different numbers"),
        ("a: 1:30", "1:30 means different numbers"),
        ("a: 1:30.5", "1:30.5 means different numbers"),
        ("a: " + "9" * 5000, "a number of 5000 digits is too large"),
        ("a: 0x" + "f" * 5000, "is too large"),
        ("a: !!int x", "f: a value does not fit its tag: invalid literal"),
        ("a: !!float x", "does not fit its tag: could not convert"),
        ("a: !!bool maybe", "does not fit its tag: 'maybe'"),
        ("a: !!binary aGk=", "line 1: the tag !!binary is not allowed"),
        ("a: !!timestamp 2024-05-01", "the tag !!timestamp is not allowed"),
        ("a: !!set {b}", "the tag !!set is not allowed"),
        ("a: !!omap [b: 1]", "the tag !!omap is not allowed"),
        ("a: !!python/object:os.system x", "the tag !!python/object:os.system is not allowed"),
        ("a: !mine x", "the tag !mine is not allowed"),
        ("a: *b", "undefined alias 'b'"),
        ("a: 1\n---\nb: 2", "but found another document"),
        ("a:\n\tb: 1", "line 2: a tab; YAML is indented with spaces"),
        ("a: [", "line 1: "),
        ("a: 1\nb: \x00", "line 2: the character U+0000 is not allowed"),
        ("a: \ud800", "line 1: the character U+D800 is not allowed"),
        ("%YAML 9.9\n---\na: 1", "incompatible YAML document"),
    ],
)
def test_what_is_refused_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f")
    assert message in str(caught.value)
    assert str(caught.value).startswith("f")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: Kanté\n", encoding=encoding)
    assert read_mapping(path) == {"a": "Kanté"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: Kant\xe9\n", "x.yaml, line 2: cannot be read: not UTF-8 text"),
        (b"\xff\xfea", "cannot be read: not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n", "line 1: cannot be read: not UTF-8 text"),
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"text", "a mapping of keys is expected, not 'text'"),
    ],
)
def test_files_that_hold_something_else(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_mapping(path)
    assert message in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_mapping(tmp_path)
