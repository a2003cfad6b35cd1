"""One real tritonserver for the end-to-end tests, on the model repository rendered from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.runtime.embedded import EmbeddedServer
from export.repository import prepare_repository
from pipeline.checkpoint import Checkpoint
from pipeline.stages.settings import StageSettings


@pytest.fixture(scope="session")
def repository(patch_checkpoint: Path, cache: Path) -> Path:
    checkpoint = Checkpoint.open(patch_checkpoint)
    return prepare_repository(checkpoint, StageSettings(checkpoint=str(patch_checkpoint)), lambda message: None, cache)


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(repository) as started:
        yield started
