"""The build record of a TensorRT engine: ``<plan>.json`` beside the plan, read before the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import CheckpointError

Library = Literal["tensorrt", "tensorrt_rtx"]
NAMES: dict[Library, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT for RTX"}


class EngineRecord(BaseModel):
    """The library version and the GPU target that a plan was built for.

    A plan runs only with that exact version of the library and on GPUs of that target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    library: Library
    version: str = Field(description="Of the library, such as 10.13.3.9.")
    target: str = Field(description="Compute capability, such as sm89.")
    engine_bytes: int
    activation_bytes: int | None = Field(
        default=None,
        description="Device memory beside the weights at the largest sizes; None if unknown.",
    )
    weight_bytes: int | None = Field(
        default=None,
        description="Weights that stay in GPU memory (the weight streaming budget); None: all.",
    )

    def save(self, plan: Path) -> None:
        _record_of(plan).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, plan: Path) -> Self:
        """Read the record beside ``plan``. Raises ``CheckpointError`` if it is missing or
        invalid.
        """
        path = _record_of(plan)
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise CheckpointError(f"{path} is missing; export the checkpoint again") from None
        except ValidationError as error:
            raise CheckpointError(
                f"{path} does not say what the engine was built with; export the checkpoint again",
                details=str(error),
            ) from None

    def require(self, library: Library, version: str, plan: Path) -> None:
        """Check that an engine with this record runs with ``version`` of ``library``.

        Raises ``CheckpointError`` if it does not. Versions are compared over the numbers that both
        have: an image reports 10.13.3, a package 10.13.3.9.
        """
        built, served = self.version.split("."), version.split(".")
        agreed = min(len(built), len(served))
        if self.library != library or built[:agreed] != served[:agreed]:
            raise CheckpointError(
                f"{plan} was built with {NAMES[self.library]} {self.version} and cannot run with "
                "the server's "
                f"{NAMES[library]} {version}; export again where the server runs"
            )


def _record_of(plan: Path) -> Path:
    return plan.with_name(f"{plan.name}.json")
