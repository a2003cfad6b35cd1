"""The settings of ``serve`` and ``worker``, declared once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from pipeline.families.bounds import Bounds
from pipeline.families.comma_separated import comma_separated
from pipeline.families.paths import CleanPath
from pipeline.families.timeouts import HANG_TIMEOUT_S

SizePolicy = Literal["nearest", "strict"]
ModelName = Annotated[str, StringConstraints(pattern=r"^[^\s\x00-\x1f\x7f]{1,200}$")]
Texts = Annotated[tuple[str, ...], BeforeValidator(comma_separated)]


class Url:
    """Accepts a URL that ``pattern`` matches. Errors do not repeat it: it may hold a password."""

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


PublicUrl = Annotated[
    str, AfterValidator(Url(r"https?://[^/?#\s@]+(/[^?#\s]*)?", "https://HOST/PATH"))
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
        description="Seconds without an answer before Triton, or a stage of it, counts as hung.",
    )


class JobSettings(HangSettings):
    """Jobs"""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    data_path: CleanPath = Field(
        Path("triton-video-data"),
        description="Folder for the job database and the videos, unless URLs are set for them.",
    )
    database_url: DatabaseUrl | None = Field(
        None,
        repr=False,
        description="Job database: postgresql://USER:PASSWORD@HOST/NAME or sqlite:///PATH."
        " Default: SQLite in --data-path. Set passwords in the variable: others can read flags.",
    )
    database_password_file: CleanPath | None = Field(
        None, description="File with the password of --database-url."
    )
    store_url: StoreUrl | None = Field(
        None,
        description="Storage for videos: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX,"
        " az://CONTAINER/PREFIX or file:///FOLDER. Default: a folder in --data-path.",
    )
    disk_reserve_bytes: int = Field(
        64 << 20,
        ge=16 << 20,
        description="Disk space in bytes reserved for an SQLite database; with less free, new"
        " videos are refused.",
    )
    jobs_per_triton: int = Field(
        1,
        ge=1,
        le=65,
        description="Concurrent jobs per Triton. With 1, the Triton of `serve` gets one more than"
        " --batching-max-size if that is larger.",
    )
    max_queued: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Maximum number of waiting jobs; more are refused with 429.",
    )
    max_attempts: int = Field(
        2, ge=1, le=10, description="Attempts before a job fails as interrupted."
    )
    lease_s: float = Field(
        30,
        ge=1,
        le=3600,
        description="Lease: seconds without a heartbeat before another worker takes the job.",
    )
    job_timeout_s: float = Field(
        3600,
        ge=1,
        description="Maximum time in seconds to make a video, excluding its time in the queue.",
    )
    queue_timeout_s: float = Field(
        86_400,
        ge=1,
        description="Maximum time in seconds in the queue; then the job fails as timed out.",
    )
    keep_s: float = Field(86_400, ge=1, description="Seconds before a finished video is deleted.")

    @property
    def data_folder(self) -> Path | None:
        """``data_path``, or None if both the database and the store are elsewhere."""
        return None if self.database_url and self.store_url else self.data_path


class HttpSettings(BaseModel):
    """HTTP server"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(30010, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    max_body_bytes: int = Field(
        32 << 20,
        ge=1024,
        description="Maximum size of a request body in bytes; all but its files may have 1 MiB.",
    )
    max_held_bytes: int = Field(
        512 << 20,
        ge=1024,
        description="Maximum total size in bytes of the request bodies held at a time, mostly in"
        " temporary files.",
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
        description="Seconds without the client reading before the connection is closed.",
    )
    keep_alive_s: int = Field(
        5, ge=1, le=3600, description="Seconds an idle connection stays open."
    )
    max_connections: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        description="Maximum number of open connections; fewer where the limit of open files"
        " (ulimit -n) requires it.",
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
        description="Videos per key and minute in this process; 0 for no limit.",
    )
    cors_origins: Texts = Field(
        (),
        description="Origins whose pages may call the API from a browser; * for all.",
    )
    ui: bool = Field(
        True, description="Serve a page for people at / and the API reference at /docs."
    )
    link_ttl_s: int = Field(
        3600,
        ge=0,
        le=604_800,
        description="Seconds that the url of a finished video works at most, and half of that at"
        " least; 0: videos have no url.",
    )
    link_key_file: CleanPath | None = Field(
        None,
        description="File with the key that signs these URLs, the same for all servers of a fleet."
        " Default: one that is made in --data-path.",
    )
    presigned_links: bool = Field(
        False,
        description="Redirect these URLs to the bucket of --store-url, which clients then must be"
        " able to reach.",
    )
    public_url: PublicUrl | None = Field(
        None,
        description="Address of this server for clients, for the url of videos: https://HOST/PATH."
        " Default: that of the request.",
    )
    worker: bool = Field(
        True, description="Make videos in this process; if off, run `triton-video worker`."
    )


class RequestSettings(BaseModel):
    """Requests"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    served_model_name: Annotated[tuple[ModelName, ...], BeforeValidator(comma_separated)] = Field(
        (),
        description="Another name of the model, such as sora-2, for clients that insist on one."
        " May be repeated.",
    )
    size_policy: SizePolicy | None = Field(
        None,
        description="A size that the model cannot make: make the nearest, or refuse it (strict)."
        " Default: nearest for the sizes of OpenAI's models, strict for others.",
    )
    unknown_fields: Literal["refuse", "ignore"] = Field(
        "refuse",
        description="A field that this server does not know: refuse the request, or ignore it.",
    )


class WebhookSettings(BaseModel):
    """Webhook"""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    webhook_url: WebhookUrl | None = Field(
        None,
        repr=False,
        description="URL notified when a video finishes: https://..., or http://... if allowed.",
    )
    webhook_secret_file: CleanPath | None = Field(
        None,
        description="File with the signing secret (whsec_...), instead of"
        " TRITON_VIDEO_WEBHOOK_SECRET.",
    )
    webhook_allow_private: bool = Field(
        False, description="Allow a webhook URL in a private network, and http://."
    )


class WorkSettings(JobSettings, WebhookSettings):
    """Settings of a process that makes videos."""


class ProxySettings(HttpSettings, RequestSettings, WorkSettings, Bounds):
    """Settings of a process that serves the API and may make videos."""
