"""Everything ``serve`` can be told, declared once."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class ProxySettings(BaseModel):
    """HTTP server"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(30010, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    data_path: Path = Field(Path("triton-video-data"), description="Folder of the job database and the videos.")
    max_queued: int = Field(100, ge=1, le=1_000_000, description="Jobs that may wait; more are refused with 429.")
    max_attempts: int = Field(2, ge=1, le=10, description="Times a job is begun before it fails as interrupted.")
    lease_s: float = Field(30, ge=1, le=3600, description="Seconds after which a silent worker's job is taken over.")
    job_timeout_s: float = Field(3600, ge=1, description="Seconds a video may take once begun.")
    keep_s: float = Field(86_400, ge=1, description="Seconds a finished video is kept.")
    max_body_bytes: int = Field(32 << 20, ge=1024, description="Largest body of a request.")
