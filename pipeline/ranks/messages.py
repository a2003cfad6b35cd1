"""The messages between the leader and its ranks. Arrays are sent with a message, by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipeline.families import VideoRequest
from pipeline.settings import StageSettings

RankPart = Literal[
    "dit", "text_encoder", "text_encoder_2", "image_encoder", "vae_encoder", "vae_decoder"
]
"""What a group of ranks computes, by the name of its stage."""


def rank_count(settings: StageSettings, part: RankPart) -> int:
    """Return the number of ranks that compute ``part`` together."""
    return {"dit": settings.layout.ranks, "text_encoder": settings.tp_size}.get(part, 1)


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Setup(_Message):
    """The first message to a rank. ``device`` is the index of its GPU, where there are GPUs; the
    rank itself adds ``store``, the path of the rendezvous file.
    """

    kind: Literal["setup"] = "setup"
    settings: StageSettings
    rank: int
    device: int = 0
    part: RankPart = "dit"
    store: str = ""

    @property
    def ranks(self) -> int:
        """Return the number of ranks in the group."""
        return rank_count(self.settings, self.part)


class Run(_Message):
    """Compute the latents of a batch: requests of one shape and with the same LoRAs, each with the
    arrays that `pipeline.ranks.tasks.Task` names. Others may join it (``Verdict``).

    In the message, the name of an array is its request's place in this message, a dot and the
    array's own name. The place in the batch is the number of requests that came before.
    """

    kind: Literal["run"] = "run"
    requests: tuple[VideoRequest, ...] = Field(min_length=1)
    measured: bool = Field(
        default=False, description="Also measure the table of the step cache, for one request."
    )


class Encode(_Message):
    """Compute embeddings of what the message's arrays hold, token ids or pixels; the answer is
    ``Done`` with the embeddings.
    """

    kind: Literal["encode"] = "encode"


class Chunks(_Message):
    """Run a VAE chunk by chunk on the message's arrays. The answer is a ``Chunk`` for each run of
    the model, then ``Done``.

    ``num_frames`` is the length of the clip that an encoder takes, and ``size`` the width and
    height to which it resizes a video. ``as_uint8`` lets a decoder send frames as uint8.
    """

    kind: Literal["chunks"] = "chunks"
    num_frames: int | None = None
    size: tuple[int, int] = (0, 0)
    as_uint8: bool = False


class Verdict(_Message):
    """The answer to ``Step``, for all ranks: the places in the batch to stop. The other requests
    continue. The answer to ``Chunk`` names place 0 to stop.

    The requests ``joining`` take part from this step on, at the next places. Then the verdict goes
    to every rank and carries the arrays of these requests, named as in ``Run``.
    """

    kind: Literal["verdict"] = "verdict"
    stop: frozenset[int] = frozenset()
    joining: tuple[VideoRequest, ...] = ()


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
    ``reused`` are the places whose step reuses the result of an earlier one. The batch is ``open``
    if requests may join before this step. ``errors`` gives, by place, the reasons of requests
    that have failed without affecting the others. ``peak_bytes`` is the most memory that the rank
    has used since its last message, if it is known.

    The arrays are the latents of the requests that have ended since the last step, each named after
    its place; and ``estimate``, the `Sample.estimate` of the place ``estimated``, if that is set.
    """

    kind: Literal["step"] = "step"
    steps: dict[int, int]
    reused: frozenset[int] = frozenset()
    open: bool = False
    errors: dict[int, str] = {}
    peak_bytes: int | None = None
    estimated: int | None = None


class Chunk(_Message):
    """Carries the result of one run of a VAE. The rank computes the next one meanwhile, and waits
    for a ``Verdict`` before it sends that.
    """

    kind: Literal["chunk"] = "chunk"


class Done(_Message):
    """Reports that this rank has finished the run and is ready for the next one.

    Rank 0 sends the latents of the requests that have ended since its last ``Step``, each named
    after its place in the batch. ``errors`` gives the reason by place if none could begin.
    ``ratios`` is the measured table of the step cache, by expert, branch and step.
    ``compile_s`` is the time that compiling took since the last run. ``peak_bytes`` is that of
    ``Step``.
    """

    kind: Literal["done"] = "done"
    errors: dict[int, str] = {}
    ratios: list[list[list[float]]] = []
    compile_s: float = 0.0
    peak_bytes: int | None = None


class Failed(_Message):
    """Reports that the rank failed with an error and ends."""

    kind: Literal["failed"] = "failed"
    sentence: str
    details: str


MessageToRank = Setup | Run | Encode | Chunks | Verdict
MessageFromRank = Ready | Alive | Step | Chunk | Done | Failed
ToRank: TypeAdapter[MessageToRank] = TypeAdapter(
    Annotated[MessageToRank, Field(discriminator="kind")]
)
FromRank: TypeAdapter[MessageFromRank] = TypeAdapter(
    Annotated[MessageFromRank, Field(discriminator="kind")]
)
