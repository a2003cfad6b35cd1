"""Parts (a) and (d): a warm request through Triton beside diffusers in one process, and where its time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from bench.lib.reference import Reference
from bench.lib.result import Result, compare_seconds
from bench.lib.serving import note, served
from pipeline.checkpoint import Checkpoint
from pipeline.client import Progress, Video, VideoClient
from pipeline.errors import GenerationError
from pipeline.spec import SamplingParams
from pipeline.stages.settings import Precision
from pipeline.video import Mp4Writer

WARM_GOAL, SHARE_GOAL = 0.9, 0.03
# Another prompt each time: the server remembers embeddings, which only a user who repeats a prompt would notice.
COLOURS, MOTIONS = ("red", "green", "blue", "purple"), ("moves left", "moves right", "grows", "moves up", "moves down")


@dataclass(frozen=True)
class Timed:
    """Seconds of one request: in all, and from the last progress of decoding to the arrival of the video."""

    total: float
    tail: float
    video: Video


def measure(
    model_path: Path, precision: Precision, threads: int, repeats: int, steps: int, *, warm: bool, share: bool
) -> Iterator[Result]:
    """Results of part (a) if ``warm``, of part (d) if ``share``; both come from the same requests."""
    info = Checkpoint.open(model_path).info
    reference = Reference(model_path, info, precision, threads) if warm else None
    ours: list[Timed] = []
    theirs: list[float] = []
    with served(model_path, precision, threads) as client:
        for params in requests(repeats + 1, steps):
            ours.append(_request(client, params))
            if reference:
                began = time.perf_counter()
                reference.generate(params)
                theirs.append(time.perf_counter() - began)
        round_trip = median(_round_trip(client) for _ in range(20))
        encoding = median(_encoding(client, steps) for _ in range(3)) if share else 0.0
    ours, theirs = ours[1:], theirs[1:]  # the first one of each side warms it up
    what = "{0.width}x{0.height}, {0.num_frames} frames, {0.num_inference_steps} steps".format(ours[0].video.request)
    note(f"{precision}: {repeats} warm requests measured")
    if warm:
        totals = [timed.total for timed in ours]
        yield compare_seconds("a", f"warm request, {what}", precision, totals, theirs, WARM_GOAL)
    if share:
        yield _share(precision, ours, encoding, round_trip)


def requests(count: int, steps: int) -> Iterator[SamplingParams]:
    """The requests both sides get, each with a prompt and a seed of its own."""
    for i in range(count):
        prompt = f"a {COLOURS[i % len(COLOURS)]} circle {MOTIONS[i % len(MOTIONS)]} on a white background"
        yield SamplingParams(prompt=prompt, seed=i, num_inference_steps=steps)  # pyright: ignore[reportCallIssue]


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


def _round_trip(client: VideoClient) -> float:
    began = time.perf_counter()
    client.status()
    return time.perf_counter() - began


def _encoding(client: VideoClient, steps: int) -> float:
    """Seconds to encode the frames of one video, alone and in this process."""
    video = _request(client, next(requests(1, steps)), return_frames=True).video
    assert video.frames is not None, "frames were asked for"
    return encode_seconds(video.frames, video.request.fps)


def encode_seconds(frames: np.ndarray, fps: int) -> float:
    began = time.perf_counter()
    with Mp4Writer(frames.shape[2], frames.shape[1], fps) as writer:
        writer.add(frames)
        writer.finish()
    return time.perf_counter() - began


def _share(precision: str, ours: list[Timed], encoding: float, round_trip: float) -> Result:
    """An upper bound: the tail holds the end of the encoding too, and the way there is a whole round trip."""
    total = median(timed.total for timed in ours)
    tail = median(timed.tail for timed in ours)
    share = (encoding + tail + round_trip) / total
    parts = f"{1000 * encoding:.0f} + {1000 * (tail + round_trip):.0f} ms"
    return Result(
        "d", "encoding + transport beside the whole request", precision, parts, f"{total:.2f} s", f"{share:.2%}",
        f"< {SHARE_GOAL:.0%}", share < SHARE_GOAL,
    )  # fmt: skip
