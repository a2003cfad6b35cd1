"""The word check finds phrases in prose, help texts and raised errors, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.check_words import findings, messages, replacements, texts, without_code

PAGE = """# Words

| not | but |
|---|---|
| is told; patience | is reported; timeout |
| goes on where | resume |
"""


def found(root: Path) -> list[str]:
    words = replacements(PAGE)
    return [sentence for text in texts(root) for sentence in findings(text, words)]


def page(root: Path, text: str) -> None:
    (root / "docs").mkdir()
    (root / "README.md").write_text("Fine.\n", encoding="utf-8")
    (root / "docs" / "page.md").write_text(text, encoding="utf-8")


def test_each_phrase_has_its_replacement() -> None:
    assert replacements(PAGE) == {
        "is told": "is reported; timeout",
        "patience": "is reported; timeout",
        "goes on where": "resume",
    }


@pytest.mark.parametrize("text", ["One.\n\nIt goes\non where it was.\n", "One.\n\nIs Told.\n"])
def test_a_phrase_is_reported_with_file_line_and_replacement(tmp_path: Path, text: str) -> None:
    page(tmp_path, text)
    (sentence,) = found(tmp_path)
    assert sentence.startswith("docs/page.md:3: ")
    assert "; write instead: " in sentence


@pytest.mark.parametrize(
    "text",
    [
        "`patience`\n",
        "```bash\npatience\n```\n",
        "    patience\n",
        "[fine](patience.md)\n",
        "impatience\n",
        "<!-- attacks: begin -->\npatience\n<!-- attacks: end -->\n",
    ],
)
def test_code_links_and_the_table_of_attacks_are_not_checked(tmp_path: Path, text: str) -> None:
    page(tmp_path, text)
    assert found(tmp_path) == []


def test_lines_are_kept_when_code_is_blanked() -> None:
    assert without_code("a\n```\nb\n```\nc\n").split("\n").index("c") == 4


def test_messages_are_descriptions_help_and_raised_errors() -> None:
    source = '''"""Patience."""
x = Field(description="one")
y = option(help=f"two {x}")
def f():
    """Patience."""
    log("patience")
    raise InputError(f"three {x}", hint="four")
'''
    assert sorted(messages(source)) == [(2, "one"), (3, "two ..."), (7, "four"), (7, "three ...")]
