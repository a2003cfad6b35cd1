"""Keys are found on their lines, whatever the values hold."""

from __future__ import annotations

import pytest
import yaml

from cli.params.file_lines import json_lines, yaml_lines

JSON = """{
  "a": "text: with {brackets} [and] \\"quotes\\",",

\t"b": {"c": [1, {"x": 2}],
    "d": null},
  "e": [
    "f", {"g": 1}
  ], "h":
  3
}
"""
YAML = """\
# a comment
a: "text: with {brackets}"
b: {c: [1, {x: 2}],
  d: null}
e:
- f
- g: 1
h: |
  a: no key
  b: either
"""


def test_json():
    assert json_lines(JSON) == {"a": 2, "b": 4, "b.c": 4, "b.d": 5, "e": 6, "h": 8}


def test_yaml():
    assert yaml_lines(yaml.compose(YAML)) == {"a": 2, "b": 3, "b.c": 3, "b.d": 4, "e": 5, "h": 8}


@pytest.mark.parametrize("text", ["1", "[1, 2]", "[]", "null"])
def test_root_that_is_not_a_mapping_has_no_keys(text: str):
    assert json_lines(text) == yaml_lines(yaml.compose(text)) == {}


def test_an_empty_file():
    assert yaml_lines(None) == {}
