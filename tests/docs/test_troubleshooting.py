"""Every way to fail has a heading of its own, under which it is found by its code."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from pipeline.errors import TritonVideoError
from proxy.errors import Code, FailureCode
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
CLASSES = [
    TritonVideoError,
    *(kind for kind in TritonVideoError.__subclasses__() if kind.__module__ == "pipeline.errors"),
]
CODES = [*get_args(Code), *get_args(FailureCode)]


def under(heading: str) -> str:
    """The text between a heading and the next one."""
    match = re.search(rf"^{heading}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match, f"no heading {heading}"
    return match[1].strip()


@pytest.mark.parametrize("code", CODES)
def test_every_code_of_the_api_has_a_heading_and_something_under_it(code: str) -> None:
    assert len(under(rf"### `{code}`")) > 30


def test_no_heading_is_of_a_code_that_is_gone() -> None:
    assert sorted(re.findall(r"^### `(\w+)`$", PAGE, re.MULTILINE)) == sorted(CODES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_exit_code_has_a_heading_and_something_under_it(kind: type[TritonVideoError]) -> None:
    assert len(under(rf"## {kind.exit_code}: [^\n]+")) > 30
