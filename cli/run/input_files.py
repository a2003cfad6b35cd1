"""The files beside the prompt, read and checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError
from pipeline.families import Clip, Inputs
from pipeline.media import input_video, reference_image

if TYPE_CHECKING:
    from cli.params.groups import InputVideoGroup, ReferenceGroup


@dataclass(frozen=True)
class InputFiles:
    """The bytes of the files, which are sent, and what of them decides the video: the size of the
    reference image, and the description of a video.
    """

    inputs: Inputs
    image: tuple[int, int] | None = None
    clip: Clip | None = None

    @classmethod
    def read(cls, images: ReferenceGroup, videos: InputVideoGroup | None = None) -> InputFiles:
        """Read the files. Raises ``InputError`` for one that is not a supported image or video."""
        image = _read("input_reference", images.input_reference, reference_image.MAX_BYTES)
        last = _read("last_frame", images.last_frame, reference_image.MAX_BYTES)
        video = None
        if videos is not None:
            named = videos.input_video or videos.extend
            field = "extend" if videos.extend else "input_video"
            video = _read(field, named, input_video.MAX_BYTES)
        # Refused here, not by a server that took long to start.
        if last is not None:
            reference_image.decode(last, "last_frame")
        return cls(
            Inputs(image, last, video),
            None if image is None else reference_image.decode(image).size,
            None if video is None else input_video.probe(video),
        )

    @property
    def described(self) -> dict[str, Any]:
        """The arguments of `ModelInfo.resolve`."""
        last = self.inputs.last_frame is not None
        return {"image": self.image, "last_frame": last, "video": self.clip}


def _read(field: str, path: Path | None, limit: int) -> bytes | None:
    """Return up to one byte more than ``limit``, which the decoder then refuses."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise InputError(field, f"{path} cannot be read: {error.strerror}") from None
