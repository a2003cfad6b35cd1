"""The options of an export. No torch: the command line imports this."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.families.parts import Part
from pipeline.settings import GraphSettings

Flavour = Literal["python", "onnxruntime", "tensorrt"]


class ExportOptions(GraphSettings):
    """The options for every part of one repository, and part of the key of its cached graphs."""

    flavour: Flavour = Field(
        default="python", description="What runs text encoders and VAE in Triton."
    )
    check: tuple[str, ...] = Field(
        default=(), description="Compute capabilities to compile for, such as sm89."
    )

    def concerning(self, part: Part) -> tuple[str, ...]:
        """Return the options that change the part's files, as words of a cache key."""
        words: list[str] = [self.precision_of(part), *sorted(self.check)]
        if part.kind == "vae":
            words.append(self.vae_engine)
        return (*words, "plan" if self.flavour == "tensorrt" else "graph")
