"""The files beside a prompt, and what a video file decides about the video that is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.families.sampling import SamplingParams

INPUT_VIDEO = "input_video"
"""The request parameter that holds the video; error messages name it."""

MAX_VIDEO_BYTES = 64 << 20
PREFIX_LATENTS = 3
"""Most clean latent frames of an extension that a model sees of its source. One holds the last
picture and no motion. Three, nine frames of a compression of 4, also hold speed and direction, and
leave most of the model's length to new frames.
"""


@dataclass(frozen=True)
class Inputs:
    """The files of a request: images in PNG, JPEG or WebP, and a video in MP4 or WebM.

    ``image`` is the first frame of the video and ``last_frame`` its last one. ``video`` is edited
    if the request has a ``strength``, and otherwise extended.
    """

    image: bytes | None = None
    last_frame: bytes | None = None
    video: bytes | None = None


@dataclass(frozen=True)
class Clip:
    """The size of a video file as displayed, its number of frames and its frames per second."""

    width: int
    height: int
    num_frames: int
    fps: int


@dataclass(frozen=True)
class Extension:
    """The latent frames of an extension: ``prefix`` of the source's end, then ``new`` ones."""

    prefix: int
    new: int

    @classmethod
    def of(
        cls, frames: int, asked: int | None, native: int, per_latent: int, most: int
    ) -> Extension:
        """Return the extension of a source of ``frames`` frames.

        ``asked`` is the request's number of frames: one that the source has, and the new ones. The
        default is what the ``native`` length of the model leaves beside the longest prefix, of
        ``most`` latent frames. A longer video gets a shorter prefix, so that both fit the native
        length; one latent frame is the shortest. Raises ``InputError`` for no new frame.
        """
        length, available = (native - 1) // per_latent + 1, (frames - 1) // per_latent + 1
        most = min(most, available)
        if asked is None:
            new = max(1, length - most)
        elif asked <= 1:
            least = 1 + per_latent
            raise InputError(
                "num_frames",
                f"{asked} adds no frame to input_video; it must be at least {least}, which adds "
                f"{per_latent}",
            )
        else:
            new = (asked - 1) // per_latent
        return cls(max(1, min(most, length - new)), new)


def check_strength(params: SamplingParams, steps: int) -> None:
    """Raise ``InputError`` for a ``strength`` that leaves none of ``steps`` denoising steps."""
    if params.strength is not None and int(steps * params.strength) < 1:
        raise InputError(
            "strength",
            f"{params.strength:g} of {steps} steps leaves none; it must be at least "
            f"{1 / steps:.3g}",
        )
