"""``--lora NAME[=PATH][:SCALE]``."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from pipeline.families.comma_separated import comma_separated
from pipeline.families.lora import NAME_PATTERN, LoraScale, LoraUse
from pipeline.families.paths import CleanPath

_SCALE = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")


class LoraArgument(BaseModel):
    """A LoRA to apply: its name, and its file or folder unless ``--lora-path`` has it.

    ``scale`` None is 1.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    path: CleanPath | None = None
    scale: LoraScale | None = None

    @property
    def use(self) -> LoraUse:
        return LoraUse(name=self.name, scale=self.scale)


def _parse(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # A path may contain colons: only a number after the last one is a scale.
    rest, colon, scale = value.rpartition(":")
    if not (colon and _SCALE.fullmatch(scale)):
        rest, scale = value, ""
    name, equals, path = rest.partition("=")
    if not re.fullmatch(NAME_PATTERN, name) or (equals and not path):
        raise ValueError(
            f"{value[:80]!r} should be NAME=PATH[:SCALE] or NAME[:SCALE]; a name has up to 64 "
            "letters, digits, '.', '_' and '-'"
        )
    return {"name": name, "path": path or None, "scale": scale or None}


LoraArguments = Annotated[
    tuple[Annotated[LoraArgument, BeforeValidator(_parse)], ...], BeforeValidator(comma_separated)
]
