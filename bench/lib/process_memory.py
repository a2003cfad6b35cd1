"""The memory of a process and all its children while it runs, by part of the pipeline."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

EVERY_S = 0.02
PROC = Path("/proc")


@dataclass
class Peaks:
    """In bytes: the most that all processes had together, and each part at that moment and at its
    own worst.
    """

    total: int = 0
    at_total: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)

    def note(self, sizes: dict[str, int]) -> None:
        if (total := sum(sizes.values())) > self.total:
            self.total, self.at_total = total, sizes
        for part, size in sizes.items():
            self.parts[part] = max(self.parts.get(part, 0), size)


@contextmanager
def watched(root: int) -> Iterator[Peaks]:
    """Sample the process ``root`` and its descendants for as long as the block runs.

    Samples without a tritonserver do not count: before its start, graphs may be exported.
    """
    peaks, stop = Peaks(), threading.Event()

    def watch() -> None:
        while not stop.wait(EVERY_S):
            sizes = sizes_below(root)
            if "tritonserver" in sizes:
                peaks.note(sizes)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        stop.set()
        thread.join()


def sizes_below(root: int) -> dict[str, int]:
    """Return the proportional set size (PSS) of each part: memory that processes share counts
    once.
    """
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdecimal() and (parent := _parent(folder)) is not None:
            children.setdefault(parent, []).append(int(folder.name))
    sizes: dict[str, int] = {}
    todo = [root]
    while todo:
        pid = todo.pop()
        todo += children.get(pid, ())
        part = _part(pid)
        sizes[part] = sizes.get(part, 0) + _pss(pid)
    return sizes


def _parent(folder: Path) -> int | None:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None  # it has ended


def _pss(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)


def _part(pid: int) -> str:
    """Return the name of the model whose stub a process is; "dit ranks"; or its program's name."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "ended"
    if "pipeline.ranks.program" in words:
        return "ranks"
    model = next((Path(word) for word in words if word.endswith("/model.py")), None)
    if model is not None:
        return model.parent.parent.name
    return Path(words[0]).name
