"""Attacks that are run for real, and the table of what became of each.

A test carries ``@pytest.mark.attack(what, before)``: the attack, and what it did before there was a
defence. It calls the fixture ``after`` with what happens now, as it was observed. `make security`
runs them and prints the table in Markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

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


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.section("attacks")
        for row in (("attack", "before", "after"), ("---",) * 3, *rows):
            terminalreporter.write_line(f"| {' | '.join(row)} |")
