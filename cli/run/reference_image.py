"""The reference image of ``--input-reference``, read and checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError
from pipeline.media.reference_image import INPUT_REFERENCE, MAX_BYTES, decode


@dataclass(frozen=True)
class ReferenceImage:
    """The bytes of the file, which are sent, and its width and height as displayed."""

    data: bytes
    size: tuple[int, int]

    @classmethod
    def read(cls, path: Path) -> ReferenceImage:
        """Read the file. Raises ``InputError`` if it is not a supported image."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise InputError(INPUT_REFERENCE, f"{path} cannot be read: {error.strerror}") from None
        return cls(data, decode(data).size)
