"""What a caller may choose about an export. No torch: the command line imports this."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.families.parts import Part
from pipeline.settings import GraphPrecision as Precision
from pipeline.settings import VaeEngine, graph_precision

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

    def precision_of(self, part: Part) -> Precision:
        """Data type of the part's graphs."""
        return graph_precision(part, self.text_encoder_precisions, self.vae_precision)

    def concerning(self, part: Part) -> tuple[str, ...]:
        """The options that change the part's files, as words of a cache key."""
        words = [self.precision_of(part), *sorted(self.check)]
        if part.kind == "vae":
            words.append(self.vae_engine)
        return (*words, "plan" if self.flavour == "tensorrt" else "graph")
