"""The rows of the table ``videos`` as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.families import SamplingParams
from proxy.errors import FailureCode

Status = Literal["queued", "in_progress", "completed", "failed"]
QUEUED, IN_PROGRESS, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"
FINISHED = (COMPLETED, FAILED)
Operation = Literal["edit", "extension"]
ImageFormat = Literal["png", "webp", "jpeg"]
Metadata = Mapping[str, str | int | float | bool]
INTERRUPTED_MESSAGE = "The server that made this video was lost."


@dataclass(frozen=True)
class NewJob:
    """A validated request for the queue."""

    owner: str
    model: str
    params: SamplingParams
    body_hash: str
    idempotency_key: str | None = None
    remixed_from: str | None = None
    trace: str | None = None
    image: str | None = None
    last_frame: str | None = None
    input_video: str | None = None
    source_frames: int | None = None
    source_video: str | None = None
    model_alias: str | None = None
    metadata: Metadata | None = None
    image_format: ImageFormat | None = None


@dataclass(frozen=True)
class Job:
    """A requested video. Times are in unix seconds."""

    number: int
    id: str
    owner: str
    model: str
    params: SamplingParams
    remixed_from: str | None
    status: Status
    progress: int
    created_at: float
    started_at: float | None
    completed_at: float | None
    expires_at: float | None
    error_code: FailureCode | None
    error_message: str | None
    file: str | None
    body_hash: str
    trace: str | None
    image: str | None
    last_frame: str | None
    input_video: str | None
    source_frames: int | None
    source_video: str | None
    model_alias: str | None
    metadata: Metadata | None
    peak_memory_bytes: int | None
    image_format: ImageFormat | None

    @property
    def files(self) -> tuple[str, ...]:
        """The keys of its files in the video store."""
        return tuple(filter(None, (self.file, self.image, self.last_frame, self.input_video)))

    @property
    def operation(self) -> Operation | None:
        """What is done with its input video; None without one."""
        if self.input_video is None:
            return None
        return "extension" if self.params.strength is None else "edit"

    @property
    def total_frames(self) -> int:
        """The number of frames of the finished video. An extension begins with its source.

        ``num_frames`` of an extension counts the last frame of the source, and the new ones.
        """
        frames = self.params.num_frames
        assert frames is not None, "the parameters of a job are resolved"
        return frames + (self.source_frames or 1) - 1 if self.operation == "extension" else frames

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of its files when it is completed."""
        return "video", "thumbnail", "spritesheet", *filter(None, [self.image_format])

    @classmethod
    def of(cls, row: Any) -> Job:
        values = {name: row[name] for name in cls.__dataclass_fields__}
        values["params"] = SamplingParams.model_validate_json(row["params"])
        if row["metadata"] is not None:
            values["metadata"] = json.loads(row["metadata"])
        return cls(**values)


@dataclass(frozen=True)
class JobClaim:
    """A job that a worker holds as long as it renews the lease."""

    job: Job
    token: str
    attempt: int

    @property
    def attempt_id(self) -> str:
        """The id of this attempt in Triton. A new one each time: a cancelled id stays cancelled."""
        return f"{self.job.id}-{self.token[:16]}"
