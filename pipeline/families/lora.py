"""The LoRAs of a server, and those that a request uses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from pipeline.errors import InputError
from pipeline.families.family import MAX_STEPS

MAX_LORAS = 16
MAX_SCALE = 10
MAX_CHARACTERS = 4096  # of a list in JSON
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
LoraName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""The name of a LoRA: letters, digits, dots, underscores and hyphens, at most 64 characters."""
LoraScale = Annotated[float, Field(ge=-MAX_SCALE, le=MAX_SCALE, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoraUse(_Record):
    """A LoRA that a request uses. ``scale`` multiplies its effect; None is the LoRA's default."""

    # Any text: an unknown name is reported with the names that there are.
    name: str = Field(max_length=64, description="Name of a LoRA that the server has.")
    scale: LoraScale | None = Field(default=None, description="Factor of its effect.")


class LoraPreset(_Record):
    """Default values of requests that use a LoRA, from its ``triton_video.json``. None: not set."""

    num_inference_steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    guidance_scale: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    guidance_scale_2: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    flow_shift: float | None = Field(default=None, gt=0, le=100, allow_inf_nan=False)


class LoraInfo(_Record):
    """A LoRA that requests may use, with the scale that it has by default."""

    name: LoraName
    scale: LoraScale = 1.0
    preset: LoraPreset = LoraPreset()


class LoraFile(LoraInfo):
    """A LoRA on the server: the absolute path of its file or folder, and its number of elements."""

    path: str
    elements: int = Field(default=0, ge=0)


class Loras(_Record):
    """The LoRAs of a server.

    ``applied`` are used by requests that do not choose. ``fixed``: requests cannot choose, because
    those are merged into the weights. A request uses ``most`` LoRAs at most.
    """

    available: tuple[LoraInfo, ...] = ()
    applied: tuple[LoraUse, ...] = ()
    fixed: bool = False
    most: int = Field(default=MAX_LORAS, ge=1, le=MAX_LORAS)

    @classmethod
    def of(
        cls, files: Iterable[LoraFile], applied: Sequence[LoraUse], *, fixed: bool, most: int
    ) -> Self:
        """Return the LoRAs in ``files`` as clients see them: without paths."""
        available = tuple(
            LoraInfo(name=file.name, scale=file.scale, preset=file.preset) for file in files
        )
        return cls(available=available, applied=tuple(applied), fixed=fixed, most=most)

    def chosen(self, uses: Sequence[LoraUse] | None) -> tuple[LoraUse, ...]:
        """Return the LoRAs of a request with their scales; ``uses`` None is the server's default.

        Those with a scale of 0 are left out. Raises ``InputError`` for an unknown name, a name that
        occurs twice, too many, and for any other than the fixed LoRAs.
        """
        applied = self._scaled(self.applied)
        if uses is None:
            return applied
        chosen = self._scaled(uses)
        if self.fixed and chosen != applied:
            names = " and ".join(f"{use.name} ({use.scale:g})" for use in applied)
            raise InputError("lora", f"not allowed: this server always applies {names}")
        return chosen

    def defaults(self, uses: Sequence[LoraUse]) -> dict[str, Any]:
        """Return the values that the presets of ``uses`` set; of several, the last one wins."""
        presets = {info.name: info.preset for info in self.available}
        found = (presets[use.name].model_dump(exclude_none=True) for use in uses)
        return {name: value for values in found for name, value in values.items()}

    def _scaled(self, uses: Sequence[LoraUse]) -> tuple[LoraUse, ...]:
        scales = {info.name: info.scale for info in self.available}
        for place, use in enumerate(uses):
            if use.name not in scales:
                raise InputError("lora", f"{use.name!r} is not known; {_known(scales)}")
            if any(use.name == earlier.name for earlier in uses[:place]):
                raise InputError("lora", f"{use.name!r} occurs twice; name each LoRA once")
        if len(uses) > self.most:
            raise InputError(
                "lora", f"{len(uses)} are too many; a request may use {self.most} (--max-loras)"
            )
        scaled = (
            LoraUse(name=use.name, scale=scales[use.name] if use.scale is None else use.scale)
            for use in uses
        )
        return tuple(use for use in scaled if use.scale)


def _known(names: Sequence[str] | dict[str, float]) -> str:
    return f"this server has {', '.join(names)}" if names else "this server has no LoRAs"


def _uses(value: Any) -> Any:
    """Parse the JSON text of a list, as forms and tensors have it; one use is a list of one."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if len(value) <= MAX_CHARACTERS else None
        except (ValueError, RecursionError):
            value = None
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list | tuple):
        raise ValueError(  # noqa: TRY004 - a TypeError is no ValidationError
            'should be a list such as [{"name": "a", "scale": 0.8}]'
        )
    return value


# Without references to other schemas: openapi.json has it in the middle of a body.
_SCHEMA = {
    "type": "array",
    "maxItems": MAX_LORAS,
    "items": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "scale": {"type": "number"}},
        "required": ["name"],
    },
}
LoraUses = Annotated[
    tuple[LoraUse, ...],
    BeforeValidator(_uses),
    Field(max_length=MAX_LORAS),
    WithJsonSchema(_SCHEMA),
]
