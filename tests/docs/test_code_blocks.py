"""What a page shows to be typed can be typed: commands and flags exist, programs and files are
well formed.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from cli.main import group
from cli.params.prevalidate import prevalidate
from tests.conftest import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (triton-video [^\n]*)$", re.MULTILINE)
INLINE = re.compile(r"`(triton-video [^`\n]+)`")
PROGRAM = "triton-video"


def blocks(page: Path, *languages: str) -> list[str]:
    return [
        text
        for language, text in FENCED.findall(page.read_text(encoding="utf-8"))
        if language in languages
    ]


def lines(page: Path) -> Iterator[str]:
    """The lines that call our program, continued ones joined."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page, "bash"):
        yield from (line for line in block.replace("\\\n", " ").splitlines() if PROGRAM in line)
    yield from INDENTED.findall(text)
    yield from INLINE.findall(text)


def calls(line: str) -> Iterator[list[str]]:
    """The words behind our program's name, up to what ends a command for a shell."""
    words = shlex.split(line, comments=True)
    while PROGRAM in words:
        words = words[words.index(PROGRAM) + 1 :]
        end = next(
            (i for i, word in enumerate(words) if word in ("|", ">", "&", "&&", ";")), len(words)
        )
        yield words[:end]


CALLS = [(page, words) for page in PAGES for line in lines(page) for words in calls(line)]


def test_there_are_such_calls() -> None:
    assert len({page for page, _ in CALLS}) > 10
    assert len(CALLS) > 50


@pytest.mark.parametrize(
    ("page", "words"), CALLS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_command_and_its_flags_exist(page: Path, words: list[str]) -> None:
    command: click.Command | None = group()
    with click.Context(command, info_name=PROGRAM, resilient_parsing=True) as ctx:
        while (
            words
            and isinstance(command, click.Group)
            and (found := command.get_command(ctx, words[0]))
        ):
            command, words = found, words[1:]
        assert not isinstance(command, click.Group) or command.params or not words, (
            f"{words[0]!r} is no command"
        )
        # an array stands for flags of its own
        words = [word for word in words if not word.startswith("${")]
        found = prevalidate(words, command.get_params(ctx), group=isinstance(command, click.Group))
    assert [str(problem) for problem in found.problems] == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name
)
def test_programs_compile(page: Path) -> None:
    for text in blocks(page, "python"):
        ast.parse(text)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "json", "yaml", "yml")],
    ids=lambda page: page.name,
)
def test_files_are_well_formed(page: Path) -> None:
    for text in blocks(page, "json"):
        json.loads(text)
    for text in blocks(page, "yaml", "yml"):
        yaml.safe_load(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_fences_are_closed_and_name_their_language(page: Path) -> None:
    fences = re.findall(r"^ *```(\w*|\{toctree\})$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) % 2 == 0
    assert [fence for fence in fences[1::2] if fence] == []
    assert set(fences[::2]) <= {
        "bash",
        "python",
        "yaml",
        "json",
        "sql",
        "text",
        "toml",
        "javascript",
        "mermaid",
        "{toctree}",
        "",
    }
