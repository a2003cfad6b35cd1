"""A whole server under clients of every kind for a while: nothing lost, memory flat, nothing left
afterwards.

    python bench/soak.py                        10 minutes
    python bench/soak.py --minutes 2 --clients 8
    python bench/soak.py --markdown FILE.md

Runs `triton-video serve` with the bundled checkpoint on loopback, with temporary files and data in
a folder of the run. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx2 as httpx

from bench.lib import table
from bench.lib.serving import cores, note
from bench.lib.soak.clients import Client
from bench.lib.soak.ledger import Ledger, listed
from bench.lib.soak.server import Soaked, soaked
from bench.lib.soak.watch import Watch, slope_per_minute

HEADER = ("what", "result", "goal", "met")
SAMPLE_S, DRAIN_S = 2.0, 180.0
FLAT = 0.1  # growth over the run, as a share of the mean


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    ledger = Ledger()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        note("starting triton-video serve")
        with soaked(folder) as server:
            note(f"{options.clients} clients for {options.minutes:g} minutes")
            lost, files = asyncio.run(_soak(server, ledger, options))
        rows = [
            *_kept(ledger, lost),
            *_memory(server.watch, options.minutes),
            *_left(server, folder, files),
        ]
    print(table.text(HEADER, rows))
    for surprise in sorted(set(ledger.surprises))[:10]:
        note(f"unexpected: {surprise}")
    if options.markdown:
        notes = f"{options.minutes:g} minutes, {options.clients} clients, {cores()} cores."
        table.save_markdown(options.markdown, "Soak", notes, HEADER, rows)
    return 1 if any(row[-1] == table.verdict(False) for row in rows) else 0


async def _soak(
    server: Soaked, ledger: Ledger, options: argparse.Namespace
) -> tuple[list[str], int]:
    """The ids of lost videos, and the number of files that are left when all videos are deleted."""
    begin = time.monotonic()
    end = begin + options.minutes * 60
    running = [
        asyncio.create_task(Client(server.url, ledger, end, seed).run())
        for seed in range(options.clients)
    ]
    while time.monotonic() < end:
        await asyncio.to_thread(server.watch.sample, time.monotonic() - begin)
        await asyncio.sleep(SAMPLE_S)
    await asyncio.gather(*running)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        deadline = time.monotonic() + DRAIN_S
        while await ledger.unfinished(client) and time.monotonic() < deadline:
            await asyncio.sleep(1)
        lost = await ledger.lost(client)
        unfinished = await ledger.unfinished(client)
        for video in await listed(client):
            (await client.delete(f"/v1/videos/{video['id']}")).raise_for_status()
    return [*lost, *["unfinished"] * unfinished], server.stored_files()


def _kept(ledger: Ledger, lost: Sequence[str]) -> Iterator[table.Row]:
    answers = sum(ledger.answers.values())
    fates = list(ledger.fates.values())
    shown = ", ".join(f"{fates.count(fate)} {fate}" for fate in ("kept", "cancelled", "deleted"))
    yield ("accepted videos", f"{len(fates)}: {shown}", "> 0", table.verdict(bool(fates)))
    yield ("lost or unfinished", str(len(lost)), "0", table.verdict(not lost))
    yield ("answers", f"{answers} of {len(ledger.answers)} kinds", "-", table.verdict(None))
    yield (
        "unexpected answers",
        str(len(ledger.surprises)),
        "0",
        table.verdict(not ledger.surprises),
    )


def _memory(watch: Watch, minutes: float) -> Iterator[table.Row]:
    for name, samples, unit in (
        ("memory of the server", watch.proxy, "MiB"),
        ("memory of Triton", watch.triton, "MiB"),
        ("descriptors of the server", watch.descriptors, ""),
    ):
        mean = sum(value for _, value in samples) / max(1, len(samples))
        slope = slope_per_minute(samples)
        shown = f"{mean:.0f} {unit}, {slope:+.2f} {unit} a minute".replace(" ,", ",").replace(
            "  ", " "
        )
        yield (
            name,
            shown,
            f"< {FLAT:.0%} in the run",
            table.verdict(slope * minutes < FLAT * mean),
        )


def _left(server: Soaked, folder: Path, files: int) -> Iterator[table.Row]:
    temporary = sorted(path.name for path in (folder / "tmp").iterdir())
    regions, processes = server.watch.left_regions(), server.watch.left_processes()
    for name in (*temporary, *regions, *processes):
        note(f"left over: {name}")
    left = {
        "files of deleted videos": files,
        "temporary files and folders": len(temporary),
        "processes": len(processes),
        "shared memory": len(regions),
        "errors in the log": server.errors(),
    }
    for what, count in left.items():
        yield (what, str(count), "0", table.verdict(count == 0))
    stopped = server.exit_code == 0
    yield ("exit code", str(server.exit_code), "0, after SIGTERM", table.verdict(stopped))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
