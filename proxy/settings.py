"""Everything ``serve`` and ``worker`` can be told, declared once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.families.bounds import Bounds
from pipeline.families.comma_separated import comma_separated
from pipeline.families.paths import CleanPath
from pipeline.families.timeouts import HANG_TIMEOUT_S

Texts = Annotated[tuple[str, ...], BeforeValidator(comma_separated)]


class Url:
    """Accepts what ``pattern`` matches. What is refused is not repeated: it may hold a password."""

    def __init__(self, pattern: str, wanted: str):
        self._pattern = re.compile(pattern)
        self._wanted = wanted

    def __call__(self, value: str) -> str:
        if not self._pattern.fullmatch(value):
            raise ValueError(f"should be {self._wanted}")
        return value


DatabaseUrl = Annotated[
    str,
    AfterValidator(
        Url(r"postgresql://.+|sqlite:///[^:?\s][^?]*", "postgresql://... or sqlite:///PATH")
    ),
]
StoreUrl = Annotated[
    str,
    AfterValidator(
        Url(
            r"(s3|gs|az)://[^/@?#\s:]+(/[^?#\s]*)?|file:///[^?#]+",
            "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER;"
            " credentials come from the environment",
        )
    ),
]


WebhookUrl = Annotated[
    str, AfterValidator(Url(r"https?://[^/?#\s]+([/?][^#\s]*)?", "https://HOST/PATH"))
]


class HangSettings(BaseModel):
    """Hangs"""

    hang_timeout_s: float = Field(
        HANG_TIMEOUT_S,
        ge=1,
        le=86_400,
        description="Seconds without an answer after which Triton, or a stage of it, counts as hung.",
    )


class JobSettings(HangSettings):
    """Jobs"""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    data_path: CleanPath = Field(
        Path("triton-video-data"),
        description="Folder of the job database and the videos, where no URL says otherwise.",
    )
    database_url: DatabaseUrl | None = Field(
        None,
        repr=False,
        description="Job database: postgresql://USER:PASSWORD@HOST/NAME or sqlite:///PATH. Without one: SQLite in "
        "--data-path. Give a password by the variable: others can read flags.",
    )
    database_password_file: CleanPath | None = Field(
        None, description="File with the password of --database-url, which then need not hold it."
    )
    store_url: StoreUrl | None = Field(
        None,
        description="Where videos are kept: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or "
        "file:///FOLDER. Without one: a folder in --data-path.",
    )
    disk_reserve_bytes: int = Field(
        64 << 20,
        ge=16 << 20,
        description="Disk space kept free for an SQLite database; below it new videos are refused.",
    )
    jobs_per_triton: int = Field(
        1, ge=1, le=64, description="Jobs that each Triton is given at a time."
    )
    max_queued: int = Field(
        100, ge=1, le=1_000_000, description="Jobs that may wait; more are refused with 429."
    )
    max_attempts: int = Field(
        2, ge=1, le=10, description="Times a job is begun before it fails as interrupted."
    )
    lease_s: float = Field(
        30, ge=1, le=3600, description="Seconds after which a silent worker's job is taken over."
    )
    job_timeout_s: float = Field(3600, ge=1, description="Seconds a video may take once begun.")
    queue_timeout_s: float = Field(
        86_400, ge=1, description="Seconds a job may wait before it fails as timed out."
    )
    keep_s: float = Field(86_400, ge=1, description="Seconds a finished video is kept.")


class HttpSettings(BaseModel):
    """HTTP server"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(30010, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    max_body_bytes: int = Field(
        32 << 20,
        ge=1024,
        description="Maximum size of a request body in bytes; all but an image is limited to 1 MiB.",
    )
    max_held_bytes: int = Field(
        512 << 20,
        ge=1024,
        description="Maximum total size in bytes of the request bodies held at a time, mostly in temporary files.",
    )
    head_timeout_s: float = Field(
        10,
        gt=0,
        le=3600,
        description="Seconds to receive a request's headers before the connection is closed.",
    )
    body_timeout_s: float = Field(
        120,
        gt=0,
        le=86_400,
        description="Seconds to receive a request's body before it is answered with 408.",
    )
    send_timeout_s: float = Field(
        60,
        ge=1,
        le=3600,
        description="Seconds in which the client reads nothing before the connection is closed.",
    )
    keep_alive_s: int = Field(
        5, ge=1, le=3600, description="Seconds a connection stays open without another request."
    )
    max_connections: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        description="Maximum number of open connections; lowered to what the limit of open files (ulimit -n) allows.",
    )
    max_connections_per_client: int = Field(
        512,
        ge=1,
        le=1_000_000,
        description="Maximum number of open connections per IP address (IPv6: per /64 network).",
    )
    max_streams: int = Field(
        256,
        ge=1,
        le=1_000_000,
        description="Maximum number of open event streams and synchronous requests.",
    )
    max_streams_per_key: int = Field(
        128,
        ge=1,
        le=1_000_000,
        description="Maximum number of open event streams and synchronous requests per key.",
    )
    requests_per_minute: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Videos that a key may ask this process for in a minute; 0 is no limit.",
    )
    cors_origins: Texts = Field(
        (),
        description="Origins whose pages may call the API from a browser, or *; none by default.",
    )
    worker: bool = Field(
        True, description="Make videos in this process; without, `triton-video worker` has to."
    )


class WebhookSettings(BaseModel):
    """Webhook"""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    webhook_url: WebhookUrl | None = Field(
        None,
        repr=False,
        description="URL that is told of each finished video; https://..., or http://... where allowed.",
    )
    webhook_secret_file: CleanPath | None = Field(
        None,
        description="File with the secret (whsec_...) that signs. Without one: TRITON_VIDEO_WEBHOOK_SECRET.",
    )
    webhook_allow_private: bool = Field(
        False, description="Let the URL lead into a private network, and be http://."
    )


class WorkSettings(JobSettings, WebhookSettings):
    """For a process that makes videos."""


class ProxySettings(HttpSettings, WorkSettings, Bounds):
    """All of it, for a process that answers too."""
