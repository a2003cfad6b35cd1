"""Stage ``vae_decoder``: decodes latents to frames chunk by chunk, and encodes each chunk before it
decodes the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.decoders import frames_to_uint8, open_decoder
from pipeline.families import VideoRequest
from pipeline.media.mp4 import Mp4Writer
from pipeline.media.previews import Previews
from pipeline.ranks.worker_engine import WorkerEngine
from pipeline.settings import StageSettings


@dataclass(frozen=True)
class DecodedVideo:
    """The three output files; ``frames`` is uint8 (T, H, W, 3) when the request asked for frames,
    otherwise None.
    """

    mp4: bytes
    thumbnail: bytes
    spritesheet: bytes
    frames: np.ndarray | None


class VaeDecoderStage:
    """Holds the decoder; runs one request at a time."""

    def __init__(self, folder: Path, settings: StageSettings):
        """Open the decoder. Raises ``CheckpointError``, or ``RankError`` with the error of a worker
        that fails to start.
        """
        self._workers: list[WorkerEngine] = []
        self._decoder = open_decoder(folder, settings, self._worker)

    def _worker(self, settings: StageSettings, device: int) -> WorkerEngine:
        self._workers.append(WorkerEngine(settings, device))
        return self._workers[-1]

    def close(self) -> None:
        """End the worker processes, if there are any."""
        for worker in self._workers:
            worker.close()

    def run(
        self, request: VideoRequest, latents: np.ndarray, before_chunk: Callable[[int, int], None]
    ) -> DecodedVideo:
        """Decode latents float32 (1, C, T, h, w) to a video.

        ``before_chunk`` is called before each run of the decoder and at the end, with the number of
        finished runs and their total. It may raise to stop; no files are left then.
        """
        runs = 1
        kept: list[np.ndarray] = []

        def before_run(run: int, total: int) -> None:
            nonlocal runs
            runs = total
            before_chunk(run, total)

        frames_in_all = 1 + (latents.shape[2] - 1) * self._decoder.frames_per_latent
        images = Previews(request.width, request.height, frames_in_all)
        with (
            Mp4Writer(request.width, request.height, request.fps) as writer,
            closing(self._decoder.decode(latents, before_run, as_uint8=True)) as chunks,
        ):
            for chunk in chunks:
                frames = frames_to_uint8(chunk)
                writer.add(frames)
                images.add(frames)
                if request.return_frames:
                    kept.append(frames)
            before_chunk(runs, runs)
            mp4 = writer.finish()
        return DecodedVideo(mp4, *images.finish(), np.concatenate(kept) if kept else None)
