"""The options of an export. No torch: the command line imports this."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.families.comma_separated import comma_separated
from pipeline.families.parts import Part
from pipeline.settings import Flavour, GraphSettings, StageSettings


class BuildOptions(BaseModel):
    """What is done with the exported graphs; also flags of `triton-video export`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = Field(
        default=(),
        description="Compute capability, such as sm89, to test-compile every graph for. "
        "May be repeated.",
    )


class ExportOptions(GraphSettings, BuildOptions):
    """The options for every part of one repository, and part of the key of its cached graphs."""

    flavour: Flavour = "python"

    @classmethod
    def of(cls, settings: StageSettings, check: tuple[str, ...] = ()) -> Self:
        """Return the options of the graphs that stages with these settings run."""
        graphs = settings.model_dump(include={"flavour", *GraphSettings.model_fields})
        return cls(**graphs, check=check)

    def concerning(self, part: Part) -> tuple[str, ...]:
        """Return the options that change the part's files, as words of a cache key."""
        if self.in_torch(part):
            return ("torch", self.precision_of(part))
        words: list[str] = [self.precision_of(part), *sorted(self.check)]
        if part.kind == "vae":
            words += [
                self.vae_engine,
                str(self.engine_max_pixels),
                str(self.weight_streaming_bytes),
            ]
        return (*words, "plan" if self.flavour == "tensorrt" else "graph")
