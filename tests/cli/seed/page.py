"""The page as its reader sees it: flags in lists, and blocks of code under headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "seed-cli.md"
TEXT = FILE.read_text(encoding="utf-8")
_PART = re.compile(
    r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code, and the nearest heading above it."""

    heading: str
    language: str
    text: str


def blocks(language: str) -> list[Block]:
    """The blocks of a language, in the page's order."""
    found, heading = [], ""
    for match in _PART.finditer(TEXT):
        heading = match["heading"] or heading
        if match["language"] == language:
            found.append(Block(heading, language, match["text"]))
    return found


def block(heading: str, language: str) -> str:
    """The only block of a language under a heading."""
    (found,) = [block.text for block in blocks(language) if block.heading == heading]
    return found


def flags() -> list[str]:
    """Every flag that the lists of arguments and the samples of the shell name, once."""
    return list(dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT)))
