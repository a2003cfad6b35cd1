"""Reads a config file: one mapping from parameter names to values, in JSON or YAML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cli.params.file_lines import json_lines, yaml_lines
from cli.params.messages import describe
from pipeline.errors import InputError

MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class ConfigFile:
    """The keys and values of a file, and the line of each key.

    A key of a nested mapping is called ``outer.inner``.
    """

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[str, int]

    def place(self, key: str) -> str:
        """Return the place of a key for an error message."""
        return f"in {self.path}, line {self.lines[key]}" if key in self.lines else f"in {self.path}"


def read_config(path: Path) -> ConfigFile:
    """Read and parse a config file; its values are not validated.

    Raises ``InputError`` if it is not a mapping, is too large or has a duplicate key.
    """
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(MAX_BYTES + 1)  # a pipe or a device may have no end
    except OSError as error:
        raise InputError("config", f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise InputError("config", f"{path} is too large; at most {MAX_BYTES} bytes are allowed")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("config", f"{path} is not a text file in UTF-8") from None
    # Both parsers also raise plain ValueErrors, such as for numbers with thousands of digits.
    try:
        values, lines = _parse(path, text)
    except yaml.YAMLError as error:
        raise InputError("config", f"{path} is not YAML: {_yaml_reason(error)}") from None
    except json.JSONDecodeError as error:
        raise InputError(
            "config", f"{path} is not JSON: line {error.lineno}: {error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError("config", f"{path} is not valid: {error}") from None
    if not isinstance(values, dict):
        found = "is empty" if values is None else f"holds {describe(values)}"
        raise InputError("config", f"{path} {found}; it must map parameter names to values")
    return ConfigFile(path, {str(key): value for key, value in values.items()}, lines)


def _parse(path: Path, text: str) -> tuple[Any, dict[str, int]]:
    # By content where the name has no such extension, as for a pipe.
    is_json = path.suffix == ".json" or (
        path.suffix not in (".yaml", ".yml") and text.lstrip().startswith("{")
    )
    if is_json:
        return json.loads(text, object_pairs_hook=_unique), json_lines(text)
    loader = _UniqueKeyLoader(text)
    try:
        root = loader.get_single_node()
        return None if root is None else loader.construct_document(root), yaml_lines(root)
    finally:
        loader.dispose()


class _UniqueKeyLoader(yaml.SafeLoader):
    """Loads YAML as ``yaml.safe_load`` does, but refuses duplicate keys and aliases.

    Nested aliases expand a few lines to billions of values.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise ValueError(
                f"line {mark.line + 1}: an alias (*) is not allowed; "
                "put a value that begins with * in quotes"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        _refuse_repeated(
            (key.value for key in keys), {key.value: key.start_mark.line + 1 for key in keys}
        )
        return super().construct_mapping(node, deep)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_repeated(key for key, _ in pairs)
    return dict(pairs)


def _refuse_repeated(keys: Iterable[str], lines: Mapping[str, int] | None = None) -> None:
    repeated = [key for key, times in Counter(keys).items() if times > 1]
    if repeated:
        place = f"line {lines[repeated[0]]}: " if lines else ""
        raise ValueError(f"{place}duplicate key {repeated[0]!r}")


def _yaml_reason(error: yaml.YAMLError) -> str:
    # The parser's message about a tag quotes it, with any password in it.
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        is_tag = isinstance(error, yaml.constructor.ConstructorError)
        what = (
            "a tag (!) is not allowed; put a value that begins with ! in quotes"
            if is_tag
            else error.problem
        )
        return f"line {error.problem_mark.line + 1}: {what}"
    return " ".join(str(error).split())
