"""The table of parts is complete, and no other module parses the name of a part."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.families import FAMILIES
from pipeline.families.parts import PARTS
from pipeline.settings import GraphSettings

ROOT = Path(__file__).resolve().parents[3]
NAMES = "|".join((*PARTS, "vae", "tokenizer", "image_processor"))
PARSED = re.compile(
    rf"\.(startswith|endswith|removeprefix|replace|split)\(\(?[\"']({NAMES})_?[\"']"
)


def test_no_other_module_parses_a_part_name() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("bench", "cli", "export", "model_repository", "pipeline", "proxy")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if PARSED.search(line)
    ]
    assert found == [], "use the table in pipeline/families/parts.py"


@pytest.mark.parametrize(
    "line", ['if part.startswith("text_encoder"):', "name.removeprefix('text_encoder')"]
)
def test_the_pattern_matches_code_that_parses_a_part_name(line: str) -> None:
    assert PARSED.search(line)


def test_every_part_belongs_to_a_family() -> None:
    assert {part for family in FAMILIES.values() for part in family.parts} == set(PARTS.values())


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("text_encoder", "bf16"),
        ("text_encoder_2", "fp32"),
        ("image_encoder", "fp32"),
        ("vae_encoder", "fp16"),
        ("vae_decoder", "fp16"),
    ],
)
def test_an_unlisted_precision_is_fp32(name: str, precision: str) -> None:
    settings = GraphSettings(text_encoder_precisions=("bf16",), vae_precision="fp16")
    assert settings.precision_of(PARTS[name]) == precision
