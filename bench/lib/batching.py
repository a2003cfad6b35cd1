"""Batches beside single requests: passes of the transformer, and servers with many clients."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from bench.lib.proxy.polling import on_cores
from bench.lib.result import Result
from bench.lib.serving import BUNDLED, make_video, note, rendered
from cli.runtime.embedded import EmbeddedServer
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import VideoClient
from pipeline.diffusion.guidance import tokens_of
from pipeline.families import SamplingParams
from pipeline.ranks.denoiser import DTYPES
from pipeline.settings import Precision

BATCHES = (2, 4, 8, 16)
GAIN_GOAL, NO_LOSS = 2.0, 0.97
SMALL_TOKENS = 32
"""Up to this many tokens a video is small: passes of one are limited by launching operations."""


@dataclass(frozen=True)
class Case:
    """A size of a video, and how many of them each client makes in a round."""

    side: int
    frames: int
    steps: int
    videos: int

    def params(self, seed: int = 0) -> SamplingParams:
        return SamplingParams(
            prompt=f"a red circle moves left, {seed}",
            seed=seed,
            width=self.side,
            height=self.side,
            num_frames=self.frames,
            num_inference_steps=self.steps,
        )


CASES = (Case(64, 1, 20, 3), Case(64, 17, 20, 2), Case(128, 33, 4, 1))


def passes(precision: Precision, repeats: int) -> Iterator[Result]:
    """Compare CPU seconds for each video of one pass, both branches of guidance counted."""
    torch.set_num_threads(1)
    model = WanTransformer3DModel.from_pretrained(
        BUNDLED, subfolder="transformer", dtype=DTYPES[precision]
    ).eval()
    for case in CASES:
        note(f"{precision}: passes of {case.side}x{case.side}, {case.frames} frames")
        times = _passes(model, case, DTYPES[precision], repeats)
        tokens = tokens_of(_shape(case), Checkpoint.open(BUNDLED).info.patch_size)
        for rows in BATCHES[1:]:
            what = f"pass of {rows // 2} videos of {tokens} tokens, over one"
            yield _compare("a", what, precision, times[rows], times[BATCHES[0]], None)


def _shape(case: Case) -> tuple[int, int, int, int, int]:
    info = Checkpoint.open(BUNDLED).info
    return info.latent_shape(info.resolve(case.params()))


def _passes(model: Any, case: Case, dtype: torch.dtype, repeats: int) -> dict[int, list[float]]:
    shape, width = _shape(case), model.config.text_dim
    times: dict[int, list[float]] = {rows: [] for rows in BATCHES}
    with torch.inference_mode():
        for _ in range(repeats + 1):
            for rows in BATCHES:
                latents = torch.randn(rows, *shape[1:], dtype=dtype)
                text = torch.randn(rows, 32, width, dtype=dtype)
                began = time.thread_time()
                model(latents, torch.full((rows,), 500.0), encoder_hidden_states=text)
                times[rows].append((time.thread_time() - began) * 2 / rows)
    return {rows: each[1:] for rows, each in times.items()}


def servers(precision: Precision, clients: int, rounds: int) -> Iterator[Result]:
    """Compare CPU seconds of a video from a server with batches and one without, on one core."""
    first, *others = sorted(os.sched_getaffinity(0))
    with (
        on_cores({first}),
        EmbeddedServer(rendered(BUNDLED, precision, 1)) as single,
        EmbeddedServer(rendered(BUNDLED, precision, 1, batching_max_size=clients)) as batching,
        on_cores({*others} or {first}),
    ):
        for case in CASES:
            note(f"{precision}: {clients} clients, {case.side}x{case.side}, {case.frames} frames")
            times: dict[str, list[float]] = {"single": [], "batching": []}
            for number in range(rounds + 1):
                for name, server in (("single", single), ("batching", batching)):
                    used = _round(server, case, clients, 1 if number == 0 else case.videos)
                    times[name].append(used)
            tokens = tokens_of(_shape(case), Checkpoint.open(BUNDLED).info.patch_size)
            what = f"{clients} clients, {tokens} tokens, {case.steps} steps"
            goal = GAIN_GOAL if tokens <= SMALL_TOKENS else NO_LOSS
            yield _compare("b", what, precision, times["batching"][1:], times["single"][1:], goal)


def _round(server: EmbeddedServer, case: Case, clients: int, videos: int) -> float:
    """Return the CPU seconds of the server for one video while all clients are busy."""

    def client(number: int) -> None:
        with VideoClient(server.grpc_url) as opened:
            for video in range(videos):
                make_video(opened, case.params(number * videos + video))

    before = _cpu_s(server.pid)
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return (_cpu_s(server.pid) - before) / (clients * videos)


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of all that it has started and that still run."""
    server, total = psutil.Process(pid), 0.0
    for process in (server, *server.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _compare(
    part: str,
    what: str,
    precision: Precision,
    ours: Sequence[float],
    beside: Sequence[float],
    goal: float | None,
) -> Result:
    ratio = median(beside) / median(ours)
    cells = [f"{1000 * median(each):.1f} ms" for each in (ours, beside)]
    allowed = "-" if goal is None else f">= {goal:g}"
    met = None if goal is None else ratio >= goal
    return Result(part, what, precision, cells[0], cells[1], f"{ratio:.2f}", allowed, met)
