"""One attempt at a job: streams it from Triton, tracks its progress and stores its files."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from obstore.exceptions import BaseError as StoreError

from pipeline.client import Preview, Progress, Video
from pipeline.client.aio import AsyncVideoClient
from pipeline.errors import CancelledError, GenerationError, InputError, ServerError
from pipeline.families import Inputs
from proxy.errors import FailureCode
from proxy.images import encoded
from proxy.jobs.model import INTERRUPTED_MESSAGE, ImageFormat, Job, JobClaim
from proxy.tracing import TRACEPARENT, carrier, span
from proxy.tritons import Triton
from proxy.video_store import VideoStore
from proxy.waiting import run_unless

logger = logging.getLogger(__name__)

# Messages of CUDA, Python, C++, ONNX Runtime, torch on the CPU and the C library.
OUT_OF_MEMORY = re.compile(
    r"out of memory|outofmemory|memoryerror|bad_alloc|failed to allocate|defaultcpuallocator"
    r"|can(?:'t|not) allocate memory",
    re.IGNORECASE,
)
DENOISE_PERCENT, MAX_UNFINISHED = 90, 99


@dataclass(frozen=True)
class StoredVideo:
    """A stored video: the key of its files, the size of the MP4, and the memory that denoising took
    at most, in bytes.
    """

    file: str
    size: int
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed. ``lost`` is set if Triton was lost: another attempt may succeed."""

    code: FailureCode
    message: str
    lost: ServerError | None = None


class ProgressTracker:
    """Tracks a video's progress in percent and the seconds of each stage.

    ``percent`` never decreases and stays below 100 while the video is unfinished. ``show`` takes
    each preview, a WebP file.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        show: Callable[[bytes], None] = lambda _webp: None,
    ) -> None:
        self.percent = 0
        self._show = show
        self.seconds: dict[str, float] = {}
        self._clock = clock
        self._since = clock()
        self._stage = "encode_text"

    def update(self, event: Progress | Preview | Video) -> None:
        if isinstance(event, Preview):
            self._show(event.webp)
            return
        now = self._clock()
        # The time after the last decoded frame goes to encoding and transfer.
        done = isinstance(event, Progress) and event.stage == "decode" and event.step == event.total
        stage = "encode" if isinstance(event, Video) or done else event.stage
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._since, self._stage = now, stage
        if isinstance(event, Progress):
            share = event.step / max(1, event.total)
            first, width = (
                (0, DENOISE_PERCENT)
                if event.stage == "denoise"
                else (DENOISE_PERCENT, 100 - DENOISE_PERCENT)
            )
            self.percent = max(self.percent, min(MAX_UNFINISHED, int(first + width * share)))


async def generate(
    claim: JobClaim, store: VideoStore, triton: Triton, timeout_s: float, tracker: ProgressTracker
) -> Video | Failure:
    """Make the job's video on ``triton``. Cancelling this task stops the device within a step.

    If ``triton`` hangs, the result is a failure with ``lost`` set.
    """
    try:
        async with asyncio.timeout(timeout_s):
            with span("make a video", {TRACEPARENT: claim.job.trace or ""}):
                inputs = await _inputs(claim.job, store)
                stream = _stream(claim, inputs, triton.client, tracker)
                video = await run_unless(triton.hung, stream)
        return video or _interrupted(ServerError(f"the Triton at {triton.client.url} hangs"))
    except (StoreError, FileNotFoundError) as error:
        logger.warning("a file of a request cannot be read: %s", type(error).__name__)
        return Failure(
            "storage_error", f"A file of the request could not be read: {type(error).__name__}."
        )
    except TimeoutError:
        return Failure("timeout", f"The video was not done within {timeout_s:g} seconds.")
    except CancelledError:
        # A client of Triton cancelled it: a client of this API would have ended this task. The
        # error itself names Triton's id of the job.
        return Failure("cancelled", "The video was cancelled by a client of the Triton server.")
    except InputError as error:
        return Failure("backend_error", str(error))
    except GenerationError as error:
        # The text is not shown to the client: a library wrote it, and it may hold paths.
        logger.error("Triton failed at a job: %s", error)
        if OUT_OF_MEMORY.search(str(error)):
            return Failure(
                "out_of_memory",
                "The video did not fit into the device's memory; a smaller one may.",
            )
        return Failure("backend_error", "The model failed at this request.")
    except ServerError as error:
        return _interrupted(error)


def _interrupted(error: ServerError) -> Failure:
    return Failure("interrupted", INTERRUPTED_MESSAGE, lost=error)


async def _inputs(job: Job, store: VideoStore) -> Inputs:
    keys = (job.image, job.last_frame, job.input_video)
    return Inputs(*[await store.input(key) if key else None for key in keys])


async def _stream(
    claim: JobClaim, inputs: Inputs, triton: AsyncVideoClient, tracker: ProgressTracker
) -> Video:
    events = triton.generate(
        claim.job.params,
        inputs=inputs,
        return_frames=claim.job.image_format is not None,
        job_id=claim.attempt_id,
        headers=carrier(),
    )
    async with aclosing(events):
        async for event in events:
            tracker.update(event)
            if isinstance(event, Video):
                return event
    raise GenerationError("the stream ended without a video")


async def store_video(claim: JobClaim, store: VideoStore, video: Video) -> StoredVideo | Failure:
    """Store the video. Must not be cancelled: the store would keep writing unnoticed."""
    try:
        files = await asyncio.to_thread(_files, video, claim.job.image_format)
        key = await store.put(claim.job.id, files)
        return StoredVideo(key, len(video.mp4), video.request.peak_memory_bytes)
    except (StoreError, OSError) as error:
        logger.warning("a video cannot be stored: %s", type(error).__name__)
        return Failure("storage_error", f"The video could not be stored: {type(error).__name__}.")


def _files(video: Video, image_format: ImageFormat | None) -> dict[str, bytes]:
    """Return the files of a video by their variants, with ``image_format`` also its first frame."""
    files = {"video": video.mp4, "thumbnail": video.thumbnail, "spritesheet": video.spritesheet}
    if image_format and video.frames is not None:
        files[image_format] = encoded(video.frames[0], image_format)
    return files
