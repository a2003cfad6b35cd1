"""Attacks that are run for real, and the table of what became of each.

A test carries ``@pytest.mark.attack(what, before)``: the attack, and what it did before there was a
defence. It calls the fixture ``after`` with what happens now, as it was observed. `make security`
runs them and prints the table in Markdown.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.security.processes import OTHERS, ours, regions

ROWS = pytest.StashKey[list[tuple[str, str, str]]]()


@pytest.fixture
def after(request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Report what the attack achieves now; a test that fails before it reports is a row
    "FAILED".
    """
    what, before = request.node.get_closest_marker("attack").args
    observed: list[str] = []
    yield observed.append
    rows = request.config.stash.setdefault(ROWS, [])
    rows.append((what, before, "; ".join(observed) or "FAILED"))


@pytest.fixture(scope="module")
def others() -> None:
    """Note what runs already, which the tests of processes leave alone."""
    OTHERS.update(child.pid for child in ours())
    OTHERS.update(regions())


@pytest.fixture(scope="module")
def private_tmp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The temporary directory of every process of this module."""
    folder = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr("tempfile.tempdir", str(folder))
        yield folder


@pytest.fixture
def load() -> Iterator[None]:
    """Twice as many busy processes as there are cores."""
    command = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(command) for _ in range(2 * (os.cpu_count() or 1))]
    yield
    for burner in burners:
        burner.kill()
        burner.wait()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.section("attacks")
        for row in (("attack", "before", "after"), ("---",) * 3, *rows):
            terminalreporter.write_line(f"| {' | '.join(row)} |")
