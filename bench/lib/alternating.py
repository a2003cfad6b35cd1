"""Servers with different settings, which make the same videos alternately."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from bench.lib.result import seconds
from bench.lib.serving import BUNDLED, make_video, note, served
from bench.lib.warm import requests
from pipeline.client import VideoClient
from pipeline.families import SamplingParams
from pipeline.settings import Precision
from pipeline.system.child_environment import WAITING

Times = dict[str, list[float]]


@dataclass(frozen=True)
class Side:
    """How threads wait, as ``NAME=value`` of the environment, and what the transformer computes in.

    A side without ``waiting`` has what triton-video sets.
    """

    waiting: str | None = None
    precision: Precision = "fp32"


@contextmanager
def servers(sides: Mapping[str, Side], threads: int) -> Iterator[dict[str, VideoClient]]:
    """Start a server for each side with the bundled checkpoint; an idle one uses no CPU."""
    with ExitStack() as stack:
        clients = dict[str, VideoClient]()
        for name, side in sides.items():
            with _environment(side.waiting):
                clients[name] = stack.enter_context(served(BUNDLED, side.precision, threads))
        yield clients


@contextmanager
def _environment(waiting: str | None) -> Iterator[None]:
    with patch.dict(os.environ):
        for each in WAITING:
            os.environ.pop(each, None)
        if waiting is not None:
            name, _, value = waiting.partition("=")
            os.environ[name] = value
        yield


def alternate(clients: dict[str, VideoClient], repeats: int, steps: int) -> Times:
    """Return the seconds of ``repeats`` warm requests to each server, turn by turn."""
    times: Times = {side: [] for side in clients}
    first, *others = requests(repeats + 1, steps)
    for client in clients.values():
        make_video(client, first)
    for params in others:
        for side, client in clients.items():
            times[side].append(_timed(client, params))
    note(", ".join(f"{side}: {seconds(each)}" for side, each in times.items()))
    return times


def _timed(client: VideoClient, params: SamplingParams) -> float:
    began = time.perf_counter()
    make_video(client, params)
    return time.perf_counter() - began
