"""Stage ``vae_decoder``: latents to frames chunk by chunk, each encoded before the next one is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.decoding import ChunkedDecoder, frames_to_uint8
from pipeline.pictures import Pictures
from pipeline.spec import VideoRequest
from pipeline.video import Mp4Writer


@dataclass(frozen=True)
class DecodedVideo:
    """Three files; ``frames`` is uint8 (T, H, W, 3) when the request asked for frames."""

    mp4: bytes
    thumbnail: bytes
    spritesheet: bytes
    frames: np.ndarray | None


class VaeDecoderStage:
    """Holds the two decoder graphs; one request at a time."""

    def __init__(self, folder: Path, threads: int):
        self._decoder = ChunkedDecoder(folder, threads)

    def run(self, request: VideoRequest, latents: np.ndarray, before_chunk: Callable[[int, int], None]) -> DecodedVideo:
        """Latents float32 (1, C, T, h, w). ``before_chunk(i, T)`` may raise to stop; nothing is left behind then."""
        total = latents.shape[2]
        kept: list[np.ndarray] = []
        pictures = Pictures(request.width, request.height, 1 + (total - 1) * self._decoder.frames_per_latent)
        with Mp4Writer(request.width, request.height, request.fps) as writer:
            before_chunk(0, total)
            for index, chunk in enumerate(self._decoder.decode(latents)):
                frames = frames_to_uint8(chunk)
                writer.add(frames)
                pictures.add(frames)
                if request.return_frames:
                    kept.append(frames)
                before_chunk(index + 1, total)
            mp4 = writer.finish()
        return DecodedVideo(mp4, *pictures.finish(), np.concatenate(kept) if kept else None)
