"""Reference pictures that cost far more than their bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.security.command_line import command

pytestmark = pytest.mark.program


@pytest.mark.attack(
    "a PNG of 16,000 x 1 pixels for an image encoder", "8 GB of memory and 34 s in the stage"
)
def test_a_line_of_pixels_is_refused(tmp_path: Path, after: Callable[[str], None]) -> None:
    Image.new("RGB", (16_000, 1)).save(tmp_path / "line.png")
    ended = command(
        "generate",
        "--prompt",
        "a",
        "--input-reference",
        tmp_path / "line.png",
        cache=tmp_path / "cache",
    )
    assert ended.code == 2, ended
    assert "at most 32 times as wide as high" in ended.error
    after(str(ended))
