"""A container engine that runs, its images, and what was exported already; without them the tests
skip and say why.

`make containers` makes all of it, and sets ``CONTAINERS`` so that nothing is skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import ServerError
from pipeline.system.cache_folder import cache_folder
from tests.containers.docker import Docker

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
IMAGES = [f"triton-video:{VERSION}-{target}" for target in ("proxy", "cpu")]


def _missing(reason: str) -> None:
    if os.environ.get("CONTAINERS"):
        pytest.fail(reason)
    pytest.skip(f"{reason} (make containers)")


@pytest.fixture(scope="session")
def docker() -> Docker:
    """The client of a daemon that answers and has the images."""
    program = shutil.which("docker")
    if program is None:
        _missing("docker is not installed")
    docker = Docker(str(program))
    for image in IMAGES:
        try:
            docker.engine.require_image(image)
        except ServerError as error:
            _missing(str(error))
    return docker


@pytest.fixture(scope="module")
def seeded_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that any user may write to, with what this machine has exported: exporting is the
    slow part.

    For one module: what the user of an image writes there, root without its capabilities may not
    change.
    """
    folder = tmp_path_factory.mktemp("container-cache") / "cache"
    folder.mkdir()
    with contextlib.suppress(FileNotFoundError):
        shutil.copytree(cache_folder(), folder, dirs_exist_ok=True)
    subprocess.run(["chmod", "-R", "a+rwX", folder.parent], check=True)
    # pytest's own folders are closed to others.
    for parent in folder.parents[1:3]:
        parent.chmod(0o755)
    return folder


@pytest.fixture
def nothing_left(docker: Docker) -> Iterator[Callable[[], None]]:
    """Asserts that no container of a run is there, now or a moment later; asked for at the end
    as well.
    """
    yield docker.require_none_left
    docker.require_none_left()
