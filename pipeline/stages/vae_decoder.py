"""Stage ``vae_decoder``: decodes latents to frames chunk by chunk, and encodes each chunk before it
decodes the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.decoders import frames_to_uint8, open_decoder
from pipeline.families import VideoRequest
from pipeline.media.input_video import frames_of
from pipeline.media.mp4 import Mp4Writer
from pipeline.media.previews import Previews
from pipeline.ranks.worker_engine import WorkerEngine
from pipeline.settings import StageSettings
from pipeline.stages.preview import PreviewMaker

AT_ONCE = 16  # frames of a source: 44 MB at 1280x720


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
        self.previews = PreviewMaker(self._decoder)

    def _worker(self, settings: StageSettings, device: int) -> WorkerEngine:
        self._workers.append(WorkerEngine(settings, device))
        return self._workers[-1]

    def close(self) -> None:
        """End the worker processes, if there are any."""
        for worker in self._workers:
            worker.close()

    def run(
        self,
        request: VideoRequest,
        latents: np.ndarray,
        before_chunk: Callable[[int, int], None],
        source: bytes | None = None,
    ) -> DecodedVideo:
        """Decode latents float32 (1, C, T, h, w) to a video.

        An extension begins with the frames of ``source``, a video file. Its last frames are decoded
        from ``latents`` too, so that the decoder knows the past of the new ones, and dropped.

        ``before_chunk`` is called before each run of the decoder and at the end, with the number of
        finished runs and their total. It may raise to stop; no files are left then.
        """
        done, runs = 0, 1
        kept: list[np.ndarray] = []

        def before_run(run: int, total: int) -> None:
            nonlocal done, runs
            done, runs = run, total
            before_chunk(run, total)

        images = Previews(request.width, request.height, request.total_frames)
        with (
            Mp4Writer(request.width, request.height, request.fps) as writer,
            closing(self._decoded(request, latents, before_run)) as chunks,
        ):

            def add(frames: np.ndarray) -> None:
                writer.add(frames)
                images.add(frames)
                if request.return_frames:
                    kept.append(frames)

            for number, frames in enumerate(chunks):
                if not number and source is not None:
                    for own in _frames_of(source, request):
                        add(own)
                        before_chunk(done, runs)  # may stop within a long source
                add(frames)
            before_chunk(runs, runs)
            mp4 = writer.finish()
        return DecodedVideo(mp4, *images.finish(), np.concatenate(kept) if kept else None)

    def _decoded(
        self,
        request: VideoRequest,
        latents: np.ndarray,
        before_run: Callable[[int, int], None],
    ) -> Generator[np.ndarray]:
        """Yield the frames of the latents, uint8 (t, H, W, 3), without those of a source."""
        dropped = request.prefix_frames
        with closing(self._decoder.decode(latents, before_run, as_uint8=True)) as chunks:
            for chunk in chunks:
                if len(chunk) > dropped:
                    yield frames_to_uint8(chunk[dropped:])
                dropped = max(0, dropped - len(chunk))


def _frames_of(source: bytes, request: VideoRequest) -> Generator[np.ndarray]:
    """Yield the frames of the video that an extension continues, ``AT_ONCE`` together."""
    size = request.width, request.height
    with closing(frames_of(source, 0, request.source_frames, size)) as frames:
        while some := list(islice(frames, AT_ONCE)):
            yield np.stack(some)
