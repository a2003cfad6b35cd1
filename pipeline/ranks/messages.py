"""What the leader and its ranks say to each other. Arrays travel beside a message, by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipeline.families import VideoRequest
from pipeline.settings import StageSettings

RankPart = Literal["dit", "text_encoder"]
"""What a group of ranks computes: the transformer, or the first text encoder."""


def rank_count(settings: StageSettings, part: RankPart) -> int:
    """The number of ranks that compute ``part``."""
    return settings.tp_size if part == "text_encoder" else settings.layout.ranks


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Setup(_Message):
    """The first message to a rank. ``store`` is the path of the file of the rendezvous."""

    kind: Literal["setup"] = "setup"
    settings: StageSettings
    rank: int
    part: RankPart = "dit"
    store: str

    @property
    def ranks(self) -> int:
        """The number of ranks in the group."""
        return rank_count(self.settings, self.part)


class Run(_Message):
    """Make the latents of a batch: requests of one shape, each with the arrays that
    `pipeline.ranks.group.Task` names.

    An array's name on the wire is its request's place in the batch, a dot, and its own name.
    """

    kind: Literal["run"] = "run"
    requests: tuple[VideoRequest, ...] = Field(min_length=1)


class Encode(_Message):
    """Make embeddings of the token ids that come along; the answer is ``Done`` with them."""

    kind: Literal["encode"] = "encode"


class Verdict(_Message):
    """The answer to ``Step``, for all ranks: the places in the batch that are to stop. The
    others go on.
    """

    kind: Literal["verdict"] = "verdict"
    stop: frozenset[int] = frozenset()


class Ready(_Message):
    """A rank has its weights and waits for work; ``device`` is where they are."""

    kind: Literal["ready"] = "ready"
    device: str


class Alive(_Message):
    """Sent every second, also while the rank computes."""

    kind: Literal["alive"] = "alive"


class Step(_Message):
    """Rank 0 is about to begin a denoising step, and waits for a ``Verdict``.

    ``steps`` has the place in the batch of each sample that is to make it, and which of its steps
    that is.
    """

    kind: Literal["step"] = "step"
    steps: dict[int, int]


class Done(_Message):
    """The run is over on this rank, and the rank ready for the next one.

    From rank 0 come arrays, each named after its place in the batch. There is none for a request
    that was stopped, or failed in a way that is its own: ``errors`` says how, by place.
    """

    kind: Literal["done"] = "done"
    errors: dict[int, str] = {}


class Failed(_Message):
    """The rank met an error and ends."""

    kind: Literal["failed"] = "failed"
    sentence: str
    details: str


ToRank: TypeAdapter[Setup | Run | Encode | Verdict] = TypeAdapter(
    Annotated[Setup | Run | Encode | Verdict, Field(discriminator="kind")]
)
FromRank: TypeAdapter[Ready | Alive | Step | Done | Failed] = TypeAdapter(
    Annotated[Ready | Alive | Step | Done | Failed, Field(discriminator="kind")]
)
