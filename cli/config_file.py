"""Reads a config file: one flat mapping from parameter names to values, in JSON or YAML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from cli.wording import describe
from pipeline.errors import InputError


def read_config(path: Path) -> dict[str, Any]:
    """The file's keys and values, not yet judged. Raises ``InputError`` when it is no mapping or says a key twice."""
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError("config", f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError("config", f"{path} is not a text file in UTF-8") from None
    # Both parsers raise plain ValueErrors too, for instance on numbers of thousands of digits.
    try:
        values = _parse(path, text)
    except yaml.YAMLError as error:
        raise InputError("config", f"{path} is not YAML: {_yaml_reason(error)}") from None
    except json.JSONDecodeError as error:
        raise InputError("config", f"{path} is not JSON: line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise InputError("config", f"{path} cannot be understood: {error}") from None
    if not isinstance(values, dict):
        found = "is empty" if values is None else f"holds {describe(values)}"
        raise InputError("config", f"{path} {found}; it should map parameter names to values")
    return {str(key): value for key, value in values.items()}


def _parse(path: Path, text: str) -> Any:
    # By content where the name does not tell, as for a pipe.
    is_json = path.suffix == ".json" or (path.suffix not in (".yaml", ".yml") and text.lstrip().startswith("{"))
    if is_json:
        return json.loads(text, object_pairs_hook=_unique)
    loader = _UniqueKeyLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _UniqueKeyLoader(yaml.SafeLoader):
    """``yaml.safe_load`` keeps the last of two equal keys; this one refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        _refuse_repeated(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        return super().construct_mapping(node, deep)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_repeated(key for key, _ in pairs)
    return dict(pairs)


def _refuse_repeated(keys: Iterable[str]) -> None:
    repeated = [key for key, times in Counter(keys).items() if times > 1]
    if repeated:
        raise ValueError(f"the key {repeated[0]!r} is there twice")


def _yaml_reason(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())
