"""Progress on standard error: bars on a terminal, a few lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cli.failure import PROGRAM

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

TITLES = {
    "prepare": "preparing",
    "start": "starting Triton",
    "denoise": "denoise",
    "decode": "decode",
    "checkpoint": "checkpoint (MB)",
}
LINES_PER_STAGE = 4


def title(stage: str, text: str = "") -> str:
    """Return the title of a stage, and what it is doing: "preparing: model repository"."""
    name = TITLES.get(stage, stage)
    return f"{name}: {text}" if text else name


def choose_view(*, quiet: bool, side_by_side: bool = False) -> Silent | Lines | Bars:
    """Return the view for standard error; with ``side_by_side`` a new stage ends no other."""
    if quiet:
        return Silent()
    return Bars(side_by_side=side_by_side) if sys.stderr.isatty() else Lines()


class Silent:
    """Shows nothing."""

    def note(self, text: str) -> None:
        pass

    def message(self, stage: str, text: str) -> None:
        pass

    def step(self, stage: str, step: int, total: int) -> None:
        pass

    def done(self, stage: str, text: str) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class Lines(Silent):
    """Prints lines: every message once, and a few steps of each stage."""

    def __init__(self) -> None:
        self._last = ""
        self._quarter = (-1, "")

    def note(self, text: str) -> None:
        print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)

    def message(self, stage: str, text: str) -> None:
        line = title(stage, text)
        if line != self._last:
            self._last = line
            self.note(line)

    def step(self, stage: str, step: int, total: int) -> None:
        quarter = (step * LINES_PER_STAGE // max(total, 1), stage)
        if quarter != self._quarter and step > 0 and quarter[0] > 0:
            self._quarter = quarter
            self.note(f"{title(stage)} {step}/{total}")

    def done(self, stage: str, text: str) -> None:
        self.message(stage, text)


class Bars:
    """Shows one bar per stage. Imports rich in functions: only a terminal needs it."""

    def __init__(self, *, side_by_side: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
        )
        self._progress: RichProgress = Progress(*columns, console=Console(stderr=True))
        self._tasks: dict[str, TaskID] = {}
        self._side_by_side = side_by_side

    def note(self, text: str) -> None:
        self._progress.console.print(
            f"{PROGRAM}: {text}", style="dim", markup=False, highlight=False, soft_wrap=True
        )

    def message(self, stage: str, text: str) -> None:
        self._progress.update(self._begin(stage, None), text=text)

    def step(self, stage: str, step: int, total: int) -> None:
        task = self._begin(stage, total)
        self._progress.update(task, completed=step, total=total, text=f"{step}/{total}")

    def done(self, stage: str, text: str) -> None:
        self._progress.update(self._begin(stage, None), total=1, completed=1, text=text)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish_all()
        self._progress.stop()

    def _begin(self, stage: str, total: int | None) -> TaskID:
        if stage not in self._tasks:
            if not self._side_by_side:
                self._finish_all()
            self._tasks[stage] = self._progress.add_task(title(stage), total=total, text="")
        return self._tasks[stage]

    def _finish_all(self) -> None:
        for task in self._progress.tasks:
            if not task.finished:
                self._progress.update(task.id, total=task.total or 1, completed=task.total or 1)
