"""One real tritonserver for the end-to-end tests, on the model repository rendered from a
checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.runtime.embedded import EmbeddedServer


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(repository) as started:
        yield started
