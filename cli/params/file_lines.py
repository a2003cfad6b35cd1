"""The line of each key in a config file, which the parsers do not keep."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

_WORD = re.compile(r'"(?:\\.|[^"\\])*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


def yaml_lines(node: yaml.Node | None) -> dict[str, int]:
    """Return the line, counted from 1, of each key; nested keys are called ``outer.inner``."""
    lines: dict[str, int] = {}
    for key, value in _pairs(node):
        lines[key.value] = key.start_mark.line + 1
        for inner, _ in _pairs(value):
            lines[f"{key.value}.{inner.value}"] = inner.start_mark.line + 1
    return lines


def json_lines(text: str) -> dict[str, int]:
    """Return the line of each key of a JSON text, as `yaml_lines` does."""
    lines: dict[str, int] = {}
    path: list[str] = []  # the key of each open bracket
    last = ""
    for word, line in _words(text):
        if word in "{[":
            path.append(last)
        elif word in "}]":
            path.pop()
        elif word == ":":
            # The word before is the key. Only keys of the root and of its mappings are parameters.
            outer = [key for key in path[1:] if key]
            if len(path) <= 2:
                lines[".".join([*outer, last])] = line
        else:
            last = word.strip('"')
    return lines


def _words(text: str) -> Iterator[tuple[str, int]]:
    line, position = 1, 0
    for match in _WORD.finditer(text):
        line += text.count("\n", position, match.start())
        position = match.start()
        yield match[0], line


def _pairs(node: yaml.Node | None) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))
