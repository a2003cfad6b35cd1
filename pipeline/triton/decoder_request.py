"""The responses of the stage ``vae_decoder``.

Runs only inside a python stub: ``triton_python_backend_utils`` exists nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from pipeline.ensemble import tensors
from pipeline.errors import TritonVideoError
from pipeline.families import VideoRequest
from pipeline.triton import adapter


def forward_progress(request: Any, stream: adapter.Stream) -> np.ndarray | None:
    """Send the progress that ``request`` carries from ``dit``, and return its estimate, if any."""
    names = (tensors.STAGE.name, tensors.PROGRESS.name)
    stream.send(adapter.response((name, adapter.array(request, name)) for name in names))
    return adapter.optional_array(request, tensors.ESTIMATE.name)


def preview(
    estimate: np.ndarray, stream: adapter.Stream, make: Callable[[np.ndarray], bytes]
) -> None:
    """Send the WebP file that ``make`` makes of ``estimate``. A worker that dies meanwhile does not
    fail the video.
    """
    with suppress(TritonVideoError):
        webp = make(estimate)
        stream.send(adapter.response([(tensors.PREVIEW.name, adapter.text(webp))]))


def finished(
    video: VideoRequest, files: tuple[bytes, bytes, bytes], frames: np.ndarray | None
) -> Any:
    """Return the last response of a request: its MP4, thumbnail and spritesheet, and ``frames`` if
    it asked for them.
    """
    mp4, thumbnail, spritesheet = files
    outputs = [
        (tensors.VIDEO.name, adapter.text(mp4)),
        (tensors.THUMBNAIL.name, adapter.text(thumbnail)),
        (tensors.SPRITESHEET.name, adapter.text(spritesheet)),
        (tensors.RESULT.name, adapter.text(video.model_dump_json())),
    ]
    if frames is not None:
        outputs.append((tensors.FRAMES.name, frames))
    return adapter.response(outputs)
