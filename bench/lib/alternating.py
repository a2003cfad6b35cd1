"""Servers with different settings, which make the same videos alternately, and their report."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from bench.lib import table
from bench.lib.busy_machine import CPU_GROUPS
from bench.lib.result import seconds
from bench.lib.serving import BUNDLED, cores, make_video, note, served
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
    """Return the seconds of ``repeats`` warm requests to each server, alternating."""
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


def report(
    arguments: Sequence[str] | None,
    title: str,
    notes: str,
    header: table.Row,
    rows: Callable[[int, int], Iterable[table.Row]],
) -> int:
    """Run a benchmark that puts its servers into control groups; print and save its table.

    ``rows`` gets the number of repetitions and of steps; the last cell of a row is its verdict.
    ``notes`` name them and the cores as ``{repeats}``, ``{steps}`` and ``{cores}``. Return 1 when a
    goal is missed.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--repeats", type=int, default=5, help="requests per number")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of a request")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    options = parser.parse_args(arguments)
    if not os.access(CPU_GROUPS, os.W_OK):
        print(f"skipped: {CPU_GROUPS} is not writable; it needs root and control groups 1")
        return 0
    os.environ["HF_HUB_OFFLINE"] = "1"
    found = list(rows(options.repeats, options.steps))
    text = notes.format(steps=options.steps, cores=cores(), repeats=options.repeats)
    print(text, table.text(header, found), sep="\n\n")
    if options.markdown:
        table.save_markdown(options.markdown, title, text, header, found)
    return 1 if any(cells[-1] == table.verdict(False) for cells in found) else 0
