"""Strict YAML: duplicate keys are errors, and every error has the line and column of its cause."""

import pytest

from deployments.config.errors import ConfigError
from deployments.config.strict_yaml import load


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: the key `a` is there twice, first in line 1"),
        ('a: 1\n"a": 1\n', "line 2, column 1: the key `a` is there twice"),
        ("{a: 1, b: {c: 1, c: 1}}", "line 1, column 18: the key `c` is there twice"),
        (
            "- a: 1\n- b:\n  - d: 1\n    d: 2\n",
            "line 4, column 5: the key `d` is there twice, first in line 3",
        ),
        ("1: x\n1: y\n", "line 2, column 1: the key `1` is there twice"),
        ("<<: {a: 1, a: 2}\n", "line 1, column 12: the key `a` is there twice"),
        ("<<: {a: 1}\n<<: {a: 2}\n", "line 2, column 1: the key `<<` is there twice"),
        ("a: [1,\n  2", "line 2, column 4: while parsing a flow sequence expected ',' or ']'"),
        ("a:\n\t- 1", "line 2, column 1: while scanning for the next token found character '\\t'"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
        ("a: 'x\n", "line 2, column 1: while scanning a quoted scalar"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: expected a single document"),
        ("a: 1\nb: \x07\n", "line 2, column 4: the character '\\x07' is not allowed"),
        ("\x07", "line 1, column 1: the character"),
        ("a:\n  b: 2024-13-01\n", "line 2, column 6: the value cannot be read: month must be in 1..12"),
        ("a: !!int x", "line 1, column 4: the value cannot be read"),
        ("a: !!python/name:os.system x", "line 1, column 4: could not determine a constructor"),
        ("a: *b", "line 1, column 4: found undefined alias"),
        ("? [a]\n: 1\n", "line 1, column 3: while constructing a mapping found unhashable key"),
        ("[" * 5_000, "nested too deeply"),
    ],
)
def test_error_has_line_and_column(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_keys_may_repeat_in_different_mappings() -> None:
    assert load("a: {x: 1}\nb: {x: 1}\nc: [{x: 1}, {x: 2}]\n") == {
        "a": {"x": 1},
        "b": {"x": 1},
        "c": [{"x": 1}, {"x": 2}],
    }


def test_key_may_override_a_merged_one() -> None:
    assert load("base: &base {a: 1, b: 2}\nuse: {<<: *base, b: 3}\n")["use"] == {"a": 1, "b": 3}
