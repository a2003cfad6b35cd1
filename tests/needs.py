"""Marks each test by what it needs, so that `make quick` can leave out what is slow to start.

A folder, a fixture or a parameter marks every test that has it; a module marks itself with
``pytestmark``. `Guard` makes a missing mark an error: a test that starts a process of `PROGRAMS`
without the mark of that process fails.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cli.runtime.keeper import Launch
from cli.runtime.kept_process import KeptProcess

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "tests/e2e": "server",
    "tests/export/components": "export",
    "tests/export/parity": "export",
    "tests/export/tensorrt": "export",
}
"""Folder -> the mark of all tests below it."""
FIXTURES = {
    "browser": "browser",
    "export_part": "export",
    "family_checkpoint": "export",
    "note_shapes_sound": "export",
    "postgres": "postgres",
    "postgres_database": "postgres",
    "s3": "s3",
    "s3_folder": "s3",
}
"""Fixture -> the mark of all tests that request it, directly or through another fixture."""
PARAMETERS = {"postgresql": ("postgres",), "s3": ("s3",), "fleet": ("postgres", "s3")}
"""Parameter of a test or of its fixtures -> the marks of the test: their fixtures are requested
by name at run time.
"""
PROGRAMS = {
    "tritonserver": ("server",),
    "pipeline.ranks.program": ("ranks", "server", "gpu"),
    "pipeline.ranks.denoiser": ("ranks", "server"),  # imported by a fork server
    "tests.pipeline.parallel.program": ("ranks",),
    "export.part_process": ("export", "program", "server"),
    "export.soundness": ("export", "program", "server"),
    "export.tensorrt.worker": ("export",),
    "run-driver": ("browser",),
    "postgres": ("postgres",),
    "initdb": ("postgres",),
    "cli": ("program", "server", "containers"),
    "triton-video": ("program", "server", "containers"),
}
"""A word of a command line, or the file name of one -> the marks that allow it; one is enough."""


def exhaustive(*values: object) -> Any:
    """A set of parameters that only `make test-all` runs: one of many combinations."""
    return pytest.param(*values, marks=pytest.mark.exhaustive)


def marks_of(item: pytest.Item) -> Iterator[str]:
    """The marks that follow from a test's folder, its fixtures and its parameters."""
    path = item.path.relative_to(ROOT).as_posix()
    yield from (mark for folder, mark in FOLDERS.items() if path.startswith(f"{folder}/"))
    names = getattr(item, "fixturenames", ())
    yield from (mark for fixture, mark in FIXTURES.items() if fixture in names)
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec else ():
        yield from PARAMETERS.get(value, ()) if isinstance(value, str) else ()


class Guard:
    """Fails a test that starts a program without the mark that the program needs."""

    def __init__(self) -> None:
        self.item: pytest.Item | None = None
        """The test that runs now, or whose fixtures are set up."""
        sys.addaudithook(self._audit)
        # The keeper starts the server, out of sight of the hook.
        start = KeptProcess.__init__

        def checked(process: KeptProcess, launch: Launch) -> None:
            if launch.container is None:
                self.require(launch.argv)
            start(process, launch)

        KeptProcess.__init__ = checked

    def require(self, words: Sequence[object]) -> None:
        """Raise ``RuntimeError`` where the test that runs lacks a mark for this command line."""
        if self.item is None:
            return
        texts = [word for word in words if isinstance(word, str)]
        for program, marks in PROGRAMS.items():
            if not any(text == program or text.endswith(f"/{program}") for text in texts):
                continue
            if not any(self.item.get_closest_marker(mark) for mark in marks):
                raise RuntimeError(
                    f"{self.item.nodeid} starts {program}: mark it with {' or '.join(marks)}"
                )

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "subprocess.Popen" and isinstance(words := arguments[1], list | tuple):
            self.require([os.fspath(word) for word in words])
