"""What the HTTP server costs: latency under pollers, jobs through the queue, time added to a video,
memory.

    python bench/proxy.py                       all parts
    python bench/proxy.py --only a,d            a: latency, b: queue, c: one video, d: memory
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


from bench.lib import table
from bench.lib.ports import free_ports
from bench.lib.proxy.load import load, percentile
from bench.lib.serving import BUNDLED, cores, note, rendered
from cli.runtime.embedded import EmbeddedServer

HEADER = ("part", "what", "triton-video", "beside it", "goal", "met")
PARTS = ("a", "b", "c", "d")
POLLERS, STORED, PACE_S, CREATES_PER_S = 100, 10_000, 1.0, 5.0
GET_GOAL_MS, ADDED_GOAL_MS, MEMORY_GOAL_MIB, FLAT = 50, 30, 150, 1.1

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
        if {"a", "c", "d"} & set(options.only):
            with EmbeddedServer(rendered(BUNDLED, "fp32", options.threads)) as triton:
                yield from _served(folder, triton.grpc_url, options)


def _served(folder: Path, triton_url: str, options: argparse.Namespace) -> Iterator[Row]:
    from bench.lib.proxy.program import serving

    if "c" in options.only:
        with serving(triton_url, folder / "c") as (url, _):
            yield _added(url, triton_url, options.repeats)
    if "d" in options.only:
        yield from _memory(folder / "d", triton_url, options.megabytes)
    if "a" in options.only:
        yield from _latency(folder / "a", triton_url, options.seconds)


def _latency(folder: Path, triton_url: str, seconds: float) -> Iterator[Row]:
    from bench.lib.proxy.program import program, serving, store_jobs

    note(f"{POLLERS} pollers for {seconds:g} s, {STORED} stored jobs, while a video is made")
    store_jobs(folder, STORED)
    with serving(triton_url, folder) as (url, _):
        ours = load(url, POLLERS, seconds, PACE_S, CREATES_PER_S)
        port = free_ports(1)[0]
        command = [sys.executable, "-m", "bench.lib.proxy.dict_server", str(port)]
        # The server of the first load goes on with its queue: the same Triton is as busy as before.
        with program(command, f"http://127.0.0.1:{port}", "/v1/videos"):
            beside = load(f"http://127.0.0.1:{port}", POLLERS, seconds, PACE_S, CREATES_PER_S)
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
