"""What the leader and its ranks say to each other. Arrays travel beside a message, by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipeline.spec import VideoRequest
from pipeline.stages.settings import Precision


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Setup(_Message):
    """The first thing a rank hears. ``store`` is the file that ranks meet in."""

    kind: Literal["setup"] = "setup"
    rank: int
    checkpoint: str
    precision: Precision
    threads: int
    ulysses: int
    ring: int
    branches: int
    store: str


class Run(_Message):
    """Make latents; with the arrays that `pipeline.stages.dit` names."""

    kind: Literal["run"] = "run"
    request: VideoRequest


class Verdict(_Message):
    """The answer to ``Step``, for all ranks: whether to go on."""

    kind: Literal["verdict"] = "verdict"
    go: bool


class Ready(_Message):
    """A rank has its weights and waits for work; ``device`` is where they are."""

    kind: Literal["ready"] = "ready"
    device: str


class Alive(_Message):
    """Sent every second, also while the rank computes."""

    kind: Literal["alive"] = "alive"


class Step(_Message):
    """Rank 0 is about to begin this denoising step, and waits for a ``Verdict``."""

    kind: Literal["step"] = "step"
    index: int


class Done(_Message):
    """The run is over on this rank, and the rank ready for the next one. From rank 0 comes the array ``latents``.

    There are none where the run was stopped, or failed in a way that is the request's own: ``error`` says how.
    """

    kind: Literal["done"] = "done"
    error: str | None = None


class Failed(_Message):
    """The rank met an error and ends."""

    kind: Literal["failed"] = "failed"
    sentence: str
    details: str


ToRank: TypeAdapter[Setup | Run | Verdict] = TypeAdapter(Annotated[Setup | Run | Verdict, Field(discriminator="kind")])
FromRank: TypeAdapter[Ready | Alive | Step | Done | Failed] = TypeAdapter(
    Annotated[Ready | Alive | Step | Done | Failed, Field(discriminator="kind")]
)
