"""Fail when a text for users contains a word that `docs/words.md` replaces.

Checked are README, docs, the descriptions and help texts of parameters, and the texts of raised
errors. Code, text in backticks and the table of attacks (written by tests) are left out.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORDS = Path("docs/words.md")
PACKAGES = ("cli", "pipeline", "export", "proxy")
DESCRIBED = {"description", "help", "short_help", "epilog"}
CODE_BLOCK = re.compile(
    r"^ *```.*?^ *```|<!-- attacks: begin -->.*?<!-- attacks: end -->", re.MULTILINE | re.DOTALL
)
CODE = re.compile(r"^ {4}\S.*$|`[^`]*`|\]\([^)]*\)|^\[[^\]]+\]: .*$", re.MULTILINE)


@dataclass(frozen=True)
class Text:
    """One text for users, where it begins."""

    path: Path
    line: int
    content: str


def replacements(page: str) -> dict[str, str]:
    """Return what to write instead, by each phrase of the table's first column."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", page, re.MULTILINE)[1:]
    return {phrase.strip(): better for words, better in rows for phrase in words.split(";")}


def without_code(page: str) -> str:
    """Return a Markdown page with its code blanked out, line numbers unchanged."""
    blank = CODE_BLOCK.sub(lambda match: "\n" * match[0].count("\n"), page)
    return CODE.sub(lambda match: "``" + "\n" * match[0].count("\n"), blank)


def literals(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string below ``node``; values in an f-string become ``...``."""
    if isinstance(node, ast.JoinedStr):
        parts = [str(p.value) if isinstance(p, ast.Constant) else "..." for p in node.values]
        yield node.lineno, "".join(parts)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from literals(child)


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Yield the texts of raised errors, of descriptions and of help in a Python file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield from literals(node.exc)
        elif isinstance(node, ast.keyword) and node.arg in DESCRIBED:
            yield from literals(node.value)


def texts(root: Path) -> Iterator[Text]:
    """Yield every text for users below ``root``."""
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    for page in pages:
        if page != root / WORDS:
            yield Text(page.relative_to(root), 1, without_code(page.read_text(encoding="utf-8")))
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        for line, content in messages(file.read_text(encoding="utf-8")):
            yield Text(file.relative_to(root), line, re.sub("`[^`]*`", "``", content))


def findings(text: Text, words: dict[str, str]) -> Iterator[str]:
    """Yield a sentence for each phrase of ``words`` in ``text``, with file and line."""
    for phrase, better in words.items():
        pattern = r"\b" + r"\s+".join(map(re.escape, phrase.split())) + r"\b"
        for match in re.finditer(pattern, text.content, re.IGNORECASE):
            line = text.line + text.content.count("\n", 0, match.start())
            yield f"{text.path}:{line}: {match[0]!r}; write instead: {better}"


def main() -> int:
    words = replacements((ROOT / WORDS).read_text(encoding="utf-8"))
    found = sorted({sentence for text in texts(ROOT) for sentence in findings(text, words)})
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
