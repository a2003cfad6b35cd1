"""``--lora NAME[=PATH][:SCALE]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from pipeline.families.comma_separated import comma_separated
from pipeline.families.lora import MAX_SCALE, NAME_PATTERN, LoraUse
from pipeline.families.paths import clean_path

_SCALE = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")


@dataclass(frozen=True)
class LoraArgument:
    """A LoRA to apply: its name, and its file or folder unless ``--lora-path`` has it.

    ``scale`` None is 1.
    """

    name: str
    path: Path | None = None
    scale: float | None = None

    @property
    def use(self) -> LoraUse:
        return LoraUse(name=self.name, scale=self.scale)

    @classmethod
    def parse(cls, text: str) -> LoraArgument:
        """Read ``NAME=PATH[:SCALE]`` or ``NAME[:SCALE]``. Raises ``ValueError`` for other texts."""
        # A path may contain colons: only a number after the last one is a scale.
        rest, colon, number = text.rpartition(":")
        if not (colon and _SCALE.fullmatch(number)):
            rest, number = text, ""
        name, equals, path = rest.partition("=")
        scale = float(number) if number else None
        if not re.fullmatch(NAME_PATTERN, name) or (equals and not path):
            raise ValueError(
                f"{text[:80]!r} should be NAME=PATH[:SCALE] or NAME[:SCALE]; a name has up to 64 "
                "letters, digits, '.', '_' and '-'"
            )
        if scale is not None and abs(scale) > MAX_SCALE:
            raise ValueError(
                f"{text[:80]!r} has a scale of {number}; it must be from -{MAX_SCALE} to "
                f"{MAX_SCALE}"
            )
        return cls(name, clean_path(path) if path else None, scale)


def _check(text: str) -> str:
    LoraArgument.parse(text)
    return text


LoraTexts = Annotated[
    tuple[Annotated[str, AfterValidator(_check)], ...], BeforeValidator(comma_separated)
]
"""Texts that `LoraArgument.parse` accepts."""
