"""What a rendered stage is told: ``stage.json`` beside its ``model.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import CheckpointError

FILE_NAME = "stage.json"
Precision = Literal["fp32", "bf16"]


class StageSettings(BaseModel):
    """Where the weights are and how to compute. The same file lies in every stage's version folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: str = Field(description="Absolute path of the Diffusers checkpoint folder.")
    precision: Precision = Field(default="fp32", description="Data type the transformer computes in.")
    threads: int = Field(default=0, ge=0, description="CPU threads per stage; 0 means as many as there are cores.")

    def save(self, folder: Path) -> None:
        (folder / FILE_NAME).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``stage.json`` in ``folder``; raises ``CheckpointError`` when it is missing or wrong."""
        path = folder / FILE_NAME
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise CheckpointError(f"{path} is missing") from None
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
        except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
            raise CheckpointError(f"{path} is not a stage description: {error}") from error
