"""Parts (a) and (d): a warm request through Triton beside diffusers in one process, and where
its time goes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from bench.lib.reference import Reference
from bench.lib.result import Result, compare_seconds
from bench.lib.serving import note, served
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Progress, Video, VideoClient
from pipeline.errors import GenerationError
from pipeline.families import SamplingParams
from pipeline.media.mp4 import Mp4Writer
from pipeline.media.previews import Previews
from pipeline.settings import Precision

WARM_GOAL, SHARE_GOAL = 0.9, 0.03
# Another prompt each time: the server remembers embeddings, which only a user who repeats a prompt
# would notice.
COLOURS, MOTIONS = (
    ("red", "green", "blue", "purple"),
    ("moves left", "moves right", "grows", "moves up", "moves down"),
)


@dataclass(frozen=True)
class Timed:
    """Seconds of one request: in all, and from the last progress of decoding to the arrival of
    the video.
    """

    total: float
    tail: float
    video: Video


@dataclass(frozen=True)
class Overhead:
    """Seconds right after a request: to encode a video and its pictures alone (all of it, and what
    of that comes after the last frame), and for a small message to the server and back.
    """

    encoding: float
    flush: float
    round_trip: float


def measure(
    model_path: Path,
    precision: Precision,
    threads: int,
    repeats: int,
    steps: int,
    *,
    warm: bool,
    share: bool,
) -> Iterator[Result]:
    """Results of part (a) if ``warm``, of part (d) if ``share``; both come from the same
    requests.
    """
    info = Checkpoint.open(model_path).info
    reference = Reference(model_path, info, precision, threads) if warm else None
    ours: list[Timed] = []
    theirs: list[float] = []
    overheads: list[Overhead] = []
    with served(model_path, precision, threads) as client:
        first, *others = requests(repeats + 1, steps)
        frames = _warm_up(client, reference, first)
        for params in others:
            ours.append(_request(client, params))
            if share:  # now and not later: the load of the machine should be that of the request
                overheads.append(
                    Overhead(*_encode(frames, ours[-1].video.request.fps), _round_trip(client))
                )
            if reference:
                theirs.append(_reference(reference, params))
    note(f"{precision}: {repeats} warm requests measured")
    if warm:
        request = ours[0].video.request
        size = f"{request.width}x{request.height}, {request.num_frames} frames"
        what = f"{size}, {request.num_inference_steps} steps"
        totals = [timed.total for timed in ours]
        yield compare_seconds("a", f"warm request, {what}", precision, totals, theirs, WARM_GOAL)
    if share:
        yield _share(precision, ours, overheads)


def requests(count: int, steps: int) -> Iterator[SamplingParams]:
    """The requests of both sides, each with another prompt and seed."""
    for i in range(count):
        colour, motion = COLOURS[i % len(COLOURS)], MOTIONS[i % len(MOTIONS)]
        prompt = f"a {colour} circle {motion} on a white background"
        yield SamplingParams(prompt=prompt, seed=i, num_inference_steps=steps)


def _warm_up(
    client: VideoClient, reference: Reference | None, params: SamplingParams
) -> np.ndarray:
    """One video on each side, untimed; returns its frames."""
    if reference:
        reference.generate(params)
    frames = _request(client, params, return_frames=True).video.frames
    assert frames is not None, "frames were asked for"
    _encode(frames, 16)
    return frames


def _request(client: VideoClient, params: SamplingParams, *, return_frames: bool = False) -> Timed:
    began = decoded = time.perf_counter()
    for event in client.generate(params, return_frames=return_frames):
        if isinstance(event, Video):
            arrived = time.perf_counter()
            return Timed(arrived - began, arrived - decoded, event)
        if _is_last(event):
            decoded = time.perf_counter()
    raise GenerationError("the server sent no video")


def _is_last(event: Progress) -> bool:
    return event.stage == "decode" and event.step == event.total


def _reference(reference: Reference, params: SamplingParams) -> float:
    began = time.perf_counter()
    reference.generate(params)
    return time.perf_counter() - began


def _encode(frames: np.ndarray, fps: int) -> tuple[float, float]:
    began = time.perf_counter()
    with Mp4Writer(frames.shape[2], frames.shape[1], fps) as writer:
        pictures = Previews(frames.shape[2], frames.shape[1], len(frames))
        writer.add(frames)
        pictures.add(frames)
        added = time.perf_counter()
        writer.finish()
        pictures.finish()
    ended = time.perf_counter()
    return ended - began, ended - added


def _round_trip(client: VideoClient) -> float:
    began = time.perf_counter()
    client.status()
    return time.perf_counter() - began


def _share(precision: str, ours: Sequence[Timed], overheads: Sequence[Overhead]) -> Result:
    """An upper bound: the way to the server counts as a whole round trip, and a flush that takes
    longer in the server than here counts as transport. The flush itself is in the tail, and in the
    encoding already.
    """
    encoding = median(overhead.encoding for overhead in overheads)
    transport = median(
        timed.tail - overhead.flush + overhead.round_trip
        for timed, overhead in zip(ours, overheads, strict=True)
    )
    total = median(timed.total for timed in ours)
    share = (encoding + transport) / total
    return Result(
        "d", "encoding + transport beside the whole request", precision,
        f"{1000 * encoding:.0f} + {1000 * transport:.0f} ms", f"{total:.2f} s", f"{share:.2%}",
        f"< {SHARE_GOAL:.0%}", share < SHARE_GOAL,
    )  # fmt: skip
