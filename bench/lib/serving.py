"""A checkpoint served by a real tritonserver of this machine for as long as a block runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.runtime.embedded import EmbeddedServer
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Video, VideoClient
from pipeline.errors import GenerationError
from pipeline.families import Inputs, SamplingParams
from pipeline.settings import Precision, StageSettings

BUNDLED = Path(__file__).resolve().parents[2] / "models" / "shapes"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def note(message: str) -> None:
    """Progress goes to standard error: standard output is for tables."""
    print(f"  {message}", file=sys.stderr, flush=True)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def rendered(model_path: Path, precision: Precision, threads: int, **others: Any) -> Path:
    """The model repository of the checkpoint, from the cache where it is there. ``others`` are
    fields of `StageSettings`.
    """
    checkpoint = Checkpoint.open(model_path)
    settings = StageSettings(
        checkpoint=str(checkpoint.path), precision=precision, threads=threads, **others
    )
    return prepare_repository(checkpoint, settings, note)


@contextmanager
def served(
    model_path: Path, precision: Precision, threads: int, **others: Any
) -> Iterator[VideoClient]:
    """A client of the server that was started for the block. ``threads`` is what each stage may
    use; ``others`` are fields of `StageSettings`.
    """
    note(f"starting Triton with {model_path.name}, {precision}, {threads} threads")
    with (
        EmbeddedServer(rendered(model_path, precision, threads, **others)) as server,
        VideoClient(server.grpc_url) as client,
    ):
        yield client


def make_video(
    client: VideoClient,
    params: SamplingParams,
    *,
    return_frames: bool = False,
    inputs: Inputs | None = None,
) -> Video:
    """One video, its progress ignored."""
    for event in client.generate(params, return_frames=return_frames, inputs=inputs):
        if isinstance(event, Video):
            return event
    raise GenerationError("the server sent no video")
