"""The tables. All instants are unix seconds; the schema itself is made by `proxy.migrations`."""

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
    # SQLite numbers rows by itself only in a column of exactly this type. The order of arrival,
    # also within a second.
    Column(
        "number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    Column("id", String(64), nullable=False, unique=True),
    Column("owner", String(64), nullable=False),
    Column("idempotency_key", String(255)),
    Column("body_hash", String(64), nullable=False),
    Column("model", String(255), nullable=False),
    Column("params", Text, nullable=False),  # SamplingParams with nothing left open, as JSON
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
    # The lease: whose job it is while it runs, and a count that goes up while that worker lives.
    Column("lease_token", String(64)),
    Column("lease_beats", Integer, nullable=False, server_default="0"),
    Column("file", String(255)),  # key in the store
    # Key in the store of the reference image. The column keeps its first name.
    Column("picture", String(255), key="image"),
    Column("trace", String(64)),  # traceparent of the request, in W3C's Trace Context
    UniqueConstraint("owner", "idempotency_key"),
    Index("videos_by_owner", "owner", "number"),
    Index("videos_by_status", "status", "number"),
    Index("videos_by_expiry", "expires_at"),
)

# Who was served last: the owner with the highest turn. Apart from the videos, since owners delete
# those.
turns = Table(
    "turns",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("turn", BigInteger, nullable=False),
)

# What the webhook is still to be told.
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

# One row, which readiness probes write.
probe = Table(
    "probe",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("writes", BigInteger, nullable=False),
)
