"""The tables. Times are in unix seconds. `proxy.migrations` creates the schema."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

videos = Table(
    "videos",
    metadata,
    # The order of arrival, also within a second. SQLite autoincrements only this exact type.
    Column(
        "number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    Column("id", String(64), nullable=False, unique=True),
    Column("owner", String(64), nullable=False),
    Column("idempotency_key", String(255)),
    Column("body_hash", String(64), nullable=False),
    Column("model", String(255), nullable=False),
    Column("params", Text, nullable=False),  # resolved SamplingParams, as JSON
    Column("remixed_from", String(64)),
    Column("status", String(16), nullable=False),
    Column("progress", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("completed_at", Float),
    Column("expires_at", Float),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("attempts", Integer, nullable=False),
    # The lease: the token of the worker, and a count that increases while the worker lives.
    Column("lease_token", String(64)),
    Column("lease_beats", Integer, nullable=False, server_default="0"),
    Column("file", String(255)),  # key in the store
    # Key in the store of the reference image. The column keeps its first name.
    Column("picture", String(255), key="image"),
    # Keys in the store of the last frame and of the video that is edited or extended.
    Column("last_frame", String(255)),
    Column("input_video", String(255)),
    Column("source_frames", Integer),  # of the input video
    Column("source_video", String(64)),  # the id of the input video, if it is one of this server
    Column("model_alias", String(255)),  # the name in the request, if not the model's own
    Column("metadata", Text),  # of the request, as JSON
    Column("image_format", String(8)),  # of the frame as a file, for a request of an image
    # Of the process that denoised, while it did; null where it is not known.
    Column("peak_memory_bytes", BigInteger),
    Column("trace", String(64)),  # traceparent of the request (W3C Trace Context)
    UniqueConstraint("owner", "idempotency_key"),
    Index("videos_by_owner", "owner", "number"),
    Index("videos_by_status", "status", "number"),
    Index("videos_by_expiry", "expires_at"),
)

# The owner with the highest turn was served last. Not in videos, since owners delete those.
turns = Table(
    "turns",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("turn", BigInteger, nullable=False),
)

# Events that are not yet delivered to the webhook.
events = Table(
    "events",
    metadata,
    Column(
        "number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    Column("id", String(64), nullable=False, unique=True),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Float, nullable=False),
    Index("events_by_time", "next_at"),
)

# One row that readiness probes update.
probe = Table(
    "probe",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("writes", BigInteger, nullable=False),
)
