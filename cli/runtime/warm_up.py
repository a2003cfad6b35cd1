"""The warm-up of a server: the smallest video, before the first request."""

from __future__ import annotations

import io
from pathlib import Path

from pipeline.ensemble.stages import DIT
from pipeline.errors import ServerError, TritonVideoError
from pipeline.families import Inputs, ModelInfo, SamplingParams
from pipeline.settings import FILE_NAME


def warm_up(url: str, repository: Path) -> None:
    """Make the smallest video of a server's model.

    The first request then does not load libraries, connect ranks or read weights from the disk.
    Raises ``ServerError`` with the reason if the video fails. Does nothing for a repository without
    our stages.
    """
    from pipeline.client import VideoClient  # imports grpc

    folder = repository / DIT.name / "1"
    if not (folder / FILE_NAME).exists():
        return
    info = ModelInfo.load(folder)
    side = info.size_multiple
    sampling = SamplingParams(
        prompt="warm-up",
        width=side,
        height=side,
        num_frames=1 + info.temporal_compression,
        num_inference_steps=len(info.defaults.denoising_timesteps or (1,)),
    )
    black = _image(side)
    inputs = Inputs(
        image=black if info.image == "required" else None,
        last_frame=black if info.last_frame == "required" else None,
    )
    try:
        with VideoClient(url) as client:
            for _ in client.generate(sampling, inputs=inputs):
                pass
    except TritonVideoError as error:
        raise ServerError(
            f"tritonserver did not start: the warm-up failed: {error}", details=error.details
        ) from error


def _image(side: int) -> bytes:
    """Return a black PNG of ``side`` x ``side`` pixels."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return file.getvalue()
