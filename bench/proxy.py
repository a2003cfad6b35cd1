"""What the HTTP server costs: latency under pollers, jobs through the queue, time added to a video,
memory, CPU of a poll, and a video that many clients watch.

    python bench/proxy.py                       all parts
    python bench/proxy.py --only a,d            a: latency, b: queue, c: one video, d: memory,
                                                e: CPU of a GET, f: a video beside pollers
    python bench/proxy.py --markdown FILE.md

Beside the latency with 10,000 stored jobs stands that of a server that keeps jobs in a dict, under
the same load, while the same Triton makes a video. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import httpx2 as httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


from bench.lib import table
from bench.lib.proxy.load import load, percentile
from bench.lib.serving import BUNDLED, cores, note, rendered
from cli.runtime.embedded import EmbeddedServer

HEADER = ("part", "what", "triton-video", "beside it", "goal", "met")
PARTS = ("a", "b", "c", "d", "e", "f")
POLLERS, STORED, PACE_S, CREATES_PER_S = 100, 10_000, 1.0, 5.0
GETS = 2000
GET_GOAL_MS, ADDED_GOAL_MS, MEMORY_GOAL_MIB, FLAT = 50, 30, 150, 1.1
CPU_GOAL_MS, WATCHED_GOAL, WATCHED_STEPS = 1.0, 1.05, 100

Row = Sequence[str]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"
    rows = sorted(_measure(options), key=lambda row: row[0])
    print(table.text(HEADER, rows))
    if options.markdown:
        notes = (
            f"{cores()} cores, {options.threads} of them for each stage of Triton; "
            f"medians of {options.repeats}."
        )
        table.save_markdown(options.markdown, "The HTTP server", notes, HEADER, rows)
    return 1 if any(row[-1] == table.verdict(False) for row in rows) else 0


def _measure(options: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "b" in options.only:
            yield from _queue(folder, options.jobs, options.repeats)
        if "f" in options.only:
            yield from _watched(folder / "f", options.repeats)
        if {"a", "c", "d", "e"} & set(options.only):
            with EmbeddedServer(rendered(BUNDLED, "fp32", options.threads)) as triton:
                yield from _served(folder, triton.grpc_url, options)


def _served(folder: Path, triton_url: str, options: argparse.Namespace) -> Iterator[Row]:
    from bench.lib.proxy.program import serving

    if "c" in options.only:
        with serving(triton_url, folder / "c") as (url, _):
            yield _added(url, triton_url, options.repeats)
    if "d" in options.only:
        yield from _memory(folder / "d", triton_url, options.megabytes)
    if "e" in options.only:
        yield from _cpu(folder, triton_url, options.repeats)
    if "a" in options.only:
        yield from _latency(folder / "a", triton_url, options.seconds)


def _latency(folder: Path, triton_url: str, seconds: float) -> Iterator[Row]:
    from bench.lib.proxy.program import dict_serving, serving, store_jobs

    note(f"{POLLERS} pollers for {seconds:g} s, {STORED} stored jobs, while a video is made")
    store_jobs(folder, STORED)
    with serving(triton_url, folder) as (url, _):
        ours = load(url, POLLERS, seconds, PACE_S, CREATES_PER_S)
        # The server of the first load goes on with its queue: the same Triton is as busy as before.
        with dict_serving() as (dict_url, _):
            beside = load(dict_url, POLLERS, seconds, PACE_S, CREATES_PER_S)
    p99 = percentile(ours.get, 0.99) * 1000
    yield (
        "a",
        "GET p99 (p50)",
        _pair(ours.get),
        _pair(beside.get),
        f"< {GET_GOAL_MS} ms",
        table.verdict(p99 < GET_GOAL_MS),
    )
    yield (
        "a",
        "create p99 (p50)",
        _pair(ours.create),
        _pair(beside.create),
        "-",
        table.verdict(None),
    )


def _queue(folder: Path, jobs: int, repeats: int) -> Iterator[Row]:
    from bench.lib.proxy.throughput import jobs_per_second
    from tests.proxy.postgres import Postgres

    note(f"{jobs} jobs through the queue, {repeats} times on each database")
    server = Postgres()
    server.start()
    sqlite, postgresql = [], []
    try:
        for turn in range(repeats):
            sqlite.append(
                jobs_per_second(f"sqlite:///{folder}/b{turn}.sqlite", folder / "b", BUNDLED, jobs)
            )
            postgresql.append(jobs_per_second(server.new_database(), folder / "b", BUNDLED, jobs))
    finally:
        server.close()
    yield (
        "b",
        "jobs/s, no-op backend: SQLite, PostgreSQL",
        f"{median(sqlite):.0f}",
        f"{median(postgresql):.0f}",
        "-",
        "-",
    )


def _added(url: str, triton_url: str, repeats: int) -> Row:
    from bench.lib.proxy.overhead import one_video

    note(f"one video by HTTP and by Triton, {repeats} times each")
    http, bare = one_video(url, triton_url, repeats)
    added = (median(http) - median(bare)) * 1000
    cells = (
        f"{median(http):.3f} s (+{added:.0f} ms)",
        f"{median(bare):.3f} s",
        f"< +{ADDED_GOAL_MS} ms",
    )
    return (
        "c",
        "one video, HTTP to HTTP; beside: bare Triton",
        *cells,
        table.verdict(added < ADDED_GOAL_MS),
    )


def _memory(folder: Path, triton_url: str, megabytes: int) -> Iterator[Row]:
    from bench.lib.proxy.overhead import big_video, memory
    from bench.lib.proxy.program import serving

    note(f"three downloads of {megabytes} MB")
    video_id = big_video(folder, megabytes * 1_000_000)
    with serving(triton_url, folder) as (url, pid):
        idle, peaks = memory(url, pid, video_id, 3)
    goal = f"< {MEMORY_GOAL_MIB} MiB"
    yield (
        "d",
        "memory at rest",
        f"{idle:.0f} MiB",
        "-",
        goal,
        table.verdict(idle < MEMORY_GOAL_MIB),
    )
    met = max(peaks) < MEMORY_GOAL_MIB and peaks[-1] < FLAT * peaks[0]
    shown = ", ".join(f"{peak:.0f}" for peak in peaks)
    yield (
        "d",
        f"memory in downloads of {megabytes} MB",
        f"{shown} MiB",
        "-",
        f"{goal}, flat",
        table.verdict(met),
    )


def _cpu(folder: Path, triton_url: str, repeats: int) -> Iterator[Row]:
    from bench.lib.proxy.polling import cpu_per_get
    from bench.lib.proxy.program import dict_serving, serving
    from tests.proxy.postgres import Postgres

    note(f"CPU of {GETS} GETs, {repeats} times on each database")
    postgresql = Postgres()
    postgresql.start()
    try:
        with (
            serving(triton_url, folder / "e") as sqlite,
            serving(triton_url, folder / "e2", postgresql.new_database()) as fleet,
            dict_serving() as beside,
        ):
            sides = {"SQLite": sqlite, "PostgreSQL": fleet, "a dict": beside}
            paths = {name: _created(url) for name, (url, _) in sides.items()}
            times: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(repeats):
                for name, (url, pid) in sides.items():
                    times[name].append(cpu_per_get(url, pid, paths[name], GETS) * 1000)
    finally:
        postgresql.close()
    for name in ("SQLite", "PostgreSQL"):
        yield (
            "e",
            f"CPU of a GET, {name}",
            f"{median(times[name]):.2f} ms",
            f"{median(times['a dict']):.2f} ms",
            f"< {CPU_GOAL_MS:g} ms",
            table.verdict(median(times[name]) < CPU_GOAL_MS),
        )


def _created(url: str) -> str:
    """Queue a video and return its path."""
    answer = httpx.post(f"{url}/v1/videos", data={"prompt": "a red circle"})
    return f"/v1/videos/{answer.raise_for_status().json()['id']}"


def _watched(folder: Path, repeats: int) -> Iterator[Row]:
    """Triton and the server share one core, and the clients use the others."""
    from bench.lib.proxy.polling import ALONE, CROWDS, on_cores, watched_video
    from bench.lib.proxy.program import serving

    note(f"a video of {WATCHED_STEPS} steps on one core, {repeats} times beside each crowd")
    first, *others = sorted(os.sched_getaffinity(0))
    with (
        on_cores({first}),
        EmbeddedServer(rendered(BUNDLED, "fp32", 1)) as triton,
        serving(triton.grpc_url, folder) as (url, pid),
        on_cores({*others} or {first}),
    ):
        watched_video(url, pid, WATCHED_STEPS, ALONE)
        for crowd in CROWDS:
            rounds = [
                [watched_video(url, pid, WATCHED_STEPS, each) for each in (crowd, ALONE)]
                for _ in range(repeats)
            ]
            ratio = median(beside.seconds / alone.seconds for beside, alone in rounds)
            cells = [
                f"{median(each.seconds for each in side):.2f} s"
                f" (server {median(each.cpu_s for each in side):.2f} s of CPU)"
                for side in zip(*rounds, strict=True)
            ]
            calm = crowd.pace_s >= PACE_S
            yield (
                "f",
                f"one video, {crowd}",
                f"x{ratio:.2f}: {cells[0]}",
                cells[1],
                f"< x{WATCHED_GOAL}" if calm else "-",
                table.verdict(ratio < WATCHED_GOAL if calm else None),
            )


def _pair(times: Sequence[float]) -> str:
    return (
        f"{percentile(list(times), 0.99) * 1000:.1f} ms ({percentile(list(times), 0.5) * 1000:.1f})"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(PARTS), metavar="PARTS"
    )
    parser.add_argument(
        "--threads", type=int, default=max(1, cores() - 1), help="of each stage of Triton"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30, help="of load")
    parser.add_argument("--jobs", type=int, default=300, help="through the queue")
    parser.add_argument(
        "--megabytes", type=int, default=1000, help="of the file that is downloaded"
    )
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
