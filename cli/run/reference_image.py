"""The reference picture that ``--input-reference`` names, read and looked at before anything
starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError
from pipeline.media.reference_image import FIELD, MAX_BYTES, decode


@dataclass(frozen=True)
class ReferencePicture:
    """The file as it is sent, and its width and height as they are seen."""

    data: bytes
    size: tuple[int, int]

    @classmethod
    def read(cls, path: Path) -> ReferencePicture:
        """Raises ``InputError`` when there is no picture that can be used."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise InputError(FIELD, f"{path} cannot be read: {error.strerror}") from None
        return cls(data, decode(data).size)
