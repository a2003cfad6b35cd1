"""The messages between the leader and its ranks. Arrays are sent with a message, by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipeline.families import VideoRequest
from pipeline.settings import StageSettings

RankPart = Literal["dit", "text_encoder"]
"""What a group of ranks computes: the transformer, or the first text encoder."""


def rank_count(settings: StageSettings, part: RankPart) -> int:
    """Return the number of ranks that compute ``part``."""
    return settings.tp_size if part == "text_encoder" else settings.layout.ranks


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Setup(_Message):
    """The first message to a rank. ``store`` is the path of the rendezvous file."""

    kind: Literal["setup"] = "setup"
    settings: StageSettings
    rank: int
    part: RankPart = "dit"
    store: str

    @property
    def ranks(self) -> int:
        """Return the number of ranks in the group."""
        return rank_count(self.settings, self.part)


class Run(_Message):
    """Compute the latents of a batch: requests of one shape, each with the arrays that
    `pipeline.ranks.group.Task` names.

    In the message, the name of an array is its request's place in the batch, a dot and the array's
    own name.
    """

    kind: Literal["run"] = "run"
    requests: tuple[VideoRequest, ...] = Field(min_length=1)


class Encode(_Message):
    """Compute embeddings of the token ids in the message's arrays; the answer is ``Done`` with the
    embeddings.
    """

    kind: Literal["encode"] = "encode"


class Verdict(_Message):
    """The answer to ``Step``, for all ranks: the places in the batch to stop. The other requests
    continue.
    """

    kind: Literal["verdict"] = "verdict"
    stop: frozenset[int] = frozenset()


class Ready(_Message):
    """Reports that a rank has loaded its weights and waits for work; ``device`` holds the
    weights.
    """

    kind: Literal["ready"] = "ready"
    device: str


class Alive(_Message):
    """Heartbeat, sent every second, also while the rank computes."""

    kind: Literal["alive"] = "alive"


class Step(_Message):
    """Reports that rank 0 is about to begin a denoising step and waits for a ``Verdict``.

    ``steps`` maps the place in the batch of each sample in this step to the number of its step.
    """

    kind: Literal["step"] = "step"
    steps: dict[int, int]


class Done(_Message):
    """Reports that this rank has finished the run and is ready for the next one.

    Rank 0 sends the arrays, each named after its place in the batch. A request that was stopped, or
    that failed without affecting the others, has no array: ``errors`` gives the reason by place.
    """

    kind: Literal["done"] = "done"
    errors: dict[int, str] = {}


class Failed(_Message):
    """Reports that the rank failed with an error and ends."""

    kind: Literal["failed"] = "failed"
    sentence: str
    details: str


ToRank: TypeAdapter[Setup | Run | Encode | Verdict] = TypeAdapter(
    Annotated[Setup | Run | Encode | Verdict, Field(discriminator="kind")]
)
FromRank: TypeAdapter[Ready | Alive | Step | Done | Failed] = TypeAdapter(
    Annotated[Ready | Alive | Step | Done | Failed, Field(discriminator="kind")]
)
