"""``manifest.json`` at the root of an exported repository: its source, its options and its
contents.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from export.cache import EXPORTERS, versions
from export.options import ExportOptions
from export.records import ComponentRecord
from pipeline.errors import CheckpointError
from pipeline.validation import first_problem

FILE_NAME = "manifest.json"
FORMAT = 2


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Model):
    """One file: its path below its folder, its size and its hash."""

    path: str
    size: int = Field(description="Bytes.")
    sha256: str


class Source(_Model):
    """The checkpoint. Its weights are not in the repository: ``dit`` reads them from ``path``."""

    path: str = Field(
        description="Absolute path of the Diffusers checkpoint folder, as stage.json has it."
    )
    repository: str | None = Field(
        default=None, description="Id on the hub, where it came from one."
    )
    revision: str | None = Field(default=None, description="Commit of the hub's repository.")
    files: tuple[FileRecord, ...] = Field(
        description="Every file of the checkpoint that is read, by its contents."
    )


def _newest(found: object) -> object:
    """Return the format a manifest has after it is read: `GraphRecord` takes the keys of format 1,
    which named the shapes of a profile least, usual and most.
    """
    return FORMAT if found == 1 else found


class Manifest(_Model):
    """The description of one exported repository."""

    format: Annotated[Literal[2], BeforeValidator(_newest)] = FORMAT
    created: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    model: str
    family: str
    source: Source
    options: ExportOptions
    precision: str = Field(description="Data type the transformer computes in.")
    versions: dict[str, str] = Field(
        default_factory=lambda: versions("triton-video", *EXPORTERS, "tensorrt", "tensorrt-rtx"),
        description="Packages that the export was made with.",
    )
    components: tuple[ComponentRecord, ...]
    files: tuple[FileRecord, ...] = Field(description="Every file of the repository but this one.")

    def save(self, folder: Path) -> None:
        (folder / FILE_NAME).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the manifest in ``folder``. Raises ``CheckpointError`` if ``folder`` is not an
        exported repository, or its manifest is damaged.
        """
        path = folder / FILE_NAME
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointError(
                f"{folder} is not an exported repository: it has no {FILE_NAME}"
            ) from None
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError as error:  # of the JSON or, as ValidationError, of a field
            reason = first_problem(error) if isinstance(error, ValidationError) else error
            raise CheckpointError(f"{path} is not a manifest of this version: {reason}") from None
