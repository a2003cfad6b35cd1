"""The response objects of OpenAI's Videos API; all keys are always present."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from proxy.jobs.model import COMPLETED, ImageFormat, Job, Metadata, Operation, Status

UNRESOLVED = "the parameters of a job are resolved"


class VideoError(BaseModel):
    code: str
    message: str


class VideoSource(BaseModel):
    """The video that another one was made of. ``video_id`` is null for one that was sent."""

    operation: Operation
    video_id: str | None


class Video(BaseModel):
    """A video. The keys from ``num_frames`` on are additions of this server."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Status
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    prompt: str
    size: str
    seconds: str
    remixed_from_video_id: str | None
    error: VideoError | None
    num_frames: int
    fps: int
    seed: int
    inference_time_s: float | None
    peak_memory_mb: float | None = Field(
        description="The most memory that the process which denoised has used, in MiB, if known."
    )
    metadata: Metadata | None
    url: str | None = Field(description="A signed link to the MP4, once it is completed.")
    events_url: str | None = Field(
        description="A signed link to the events, for EventSource, until it is finished."
    )
    source: VideoSource | None = Field(description="The video that was edited or extended.")

    @classmethod
    def of(cls, job: Job, url: str | None = None, events_url: str | None = None) -> Video:
        params = job.params
        frames = job.total_frames
        assert params.fps is not None, UNRESOLVED
        assert params.seed is not None, UNRESOLVED
        peak, took = job.peak_memory_bytes, None
        if job.status == COMPLETED and job.started_at and job.completed_at:
            took = max(0.0, round(job.completed_at - job.started_at, 3))
        return cls(
            id=job.id,
            model=job.model_alias or job.model,
            status=job.status,
            progress=job.progress,
            created_at=int(job.created_at),
            completed_at=_whole(job.completed_at),
            expires_at=_whole(job.expires_at),
            prompt=params.prompt,
            size=f"{params.width}x{params.height}",
            seconds=seconds_text(frames, params.fps),
            remixed_from_video_id=job.remixed_from,
            error=VideoError(code=job.error_code, message=job.error_message or "")
            if job.error_code
            else None,
            num_frames=frames,
            fps=params.fps,
            seed=params.seed,
            inference_time_s=took,
            peak_memory_mb=None if peak is None else round(peak / (1 << 20), 1),
            metadata=job.metadata,
            url=url,
            events_url=events_url,
            source=VideoSource(operation=job.operation, video_id=job.source_video)
            if job.operation
            else None,
        )


class VideoList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, data: list[Video], more: bool) -> VideoList:
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=data, first_id=first, last_id=last, has_more=more)


class VideoDeleted(BaseModel):
    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: bool = True


class GeneratedImage(BaseModel):
    """An image, or a link to it. ``video_id`` is an addition of this server."""

    b64_json: str | None = Field(default=None, description="The file in base64.")
    url: str | None = Field(default=None, description="A signed link to the file.")
    video_id: str = Field(description="The video of one frame behind the image.")


class ImageList(BaseModel):
    """OpenAI's ImagesResponse."""

    created: int
    data: list[GeneratedImage]
    background: Literal["opaque"] = "opaque"
    output_format: ImageFormat
    size: str


class Health(BaseModel):
    status: Literal["ok", "unavailable"]
    checks: dict[str, bool]
    reasons: dict[str, str] = Field(default={}, description="Why a check failed, by its name.")


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """The body of every error response."""

    error: ErrorDetail


def seconds_text(frames: int, fps: int) -> str:
    """Return the length of a video in seconds as text: "4", not "4.0"."""
    return f"{frames / fps:.3f}".rstrip("0").rstrip(".")


def _whole(instant: float | None) -> int | None:
    return None if instant is None else int(instant)
