"""What a caller may choose about an export. No torch: the command line imports this."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.settings import GraphPrecision as Precision
from pipeline.settings import VaeEngine

Flavour = Literal["python", "onnxruntime", "tensorrt"]


class ExportOptions(BaseModel):
    """The same for every part of one repository; it is part of what its cached graphs are keyed
    by.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flavour: Flavour = Field(
        default="python", description="What runs text encoders and VAE in Triton."
    )
    vae_engine: VaeEngine = Field(default="chunked", description="How the VAE decodes.")
    vae_precision: Precision = Field(default="fp32", description="Data type of the VAE's graphs.")
    text_encoder_precisions: tuple[Precision, ...] = Field(
        default=(),
        description="Data type of each text encoder's graph, in order; fp32 where none is given.",
    )
    check: tuple[str, ...] = Field(
        default=(), description="Compute capabilities to compile for, such as sm89."
    )

    def precision_of(self, part: str) -> Precision:
        """``text_encoder``, ``text_encoder_2``, ... have their own; every other part has the
        VAE's or fp32.
        """
        if part.startswith("text_encoder"):
            index = int(part.removeprefix("text_encoder").removeprefix("_") or 1) - 1
            given = self.text_encoder_precisions
            return given[index] if index < len(given) else "fp32"
        return self.vae_precision if part.startswith("vae") else "fp32"

    def concerning(self, part: str) -> tuple[str, ...]:
        """What of these changes the part's files, in words that a cache can be keyed by."""
        words = [self.precision_of(part), *sorted(self.check)]
        if part.startswith("vae"):
            words.append(self.vae_engine)
        return (*words, "plan" if self.flavour == "tensorrt" else "graph")
