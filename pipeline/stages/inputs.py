"""The files of a request, decoded by the stage ``tokenizer``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from PIL import Image

from pipeline.ensemble.tensors import LAST_FRAME
from pipeline.families import Clip, Inputs, VideoRequest
from pipeline.media.input_video import frames_of, probe
from pipeline.media.reference_image import ReferenceImage, decode


@dataclass(frozen=True)
class ReadInputs:
    """The decoded images of a request; and of a video its file, which is decoded again by those who
    need its frames, and its description.
    """

    image: ReferenceImage | None
    last_frame: ReferenceImage | None
    video: bytes | None
    clip: Clip | None

    @classmethod
    def of(cls, inputs: Inputs) -> Self:
        """Decode the files. Raises ``InputError``."""
        return cls(
            None if inputs.image is None else decode(inputs.image),
            None if inputs.last_frame is None else decode(inputs.last_frame, LAST_FRAME.key),
            inputs.video,
            None if inputs.video is None else probe(inputs.video),
        )

    def first_images(self, request: VideoRequest) -> list[Image.Image]:
        """Return the images that the video begins with: the reference image, or the last frames of
        the video that it continues.
        """
        if self.image:
            return [self.image.image]
        if self.video is None or not request.source_frames:
            return []
        end = request.source_frames
        frames = frames_of(self.video, end - request.prefix_frames, end)
        return [Image.fromarray(frame) for frame in frames]

    @property
    def last_image(self) -> list[Image.Image]:
        return [self.last_frame.image] if self.last_frame else []
