"""Fixtures that several packages share. What they make is made once per session, and lies in
pytest's own folder.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.families import FAMILIES
from pipeline.system.telemetry import opt_out

# A shell that starts the tests in the background ignores Ctrl-C for them, and so for every program
# they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Before a test imports a library that reports: tests reach nothing but loopback.
opt_out()

ROOT = Path(__file__).resolve().parent.parent
SHAPES = ROOT / "models" / "shapes"


@pytest.fixture(scope="session")
def build_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds a tiny random checkpoint once per set of options."""
    from tests import checkpoints  # torch and transformers: not for the tests that need neither

    built: dict[str, Path] = {}

    def build(**options: Any) -> Path:
        name = "-".join(f"{key}{int(value)}" for key, value in sorted(options.items()))
        if name not in built:
            built[name] = checkpoints.build(
                tmp_path_factory.mktemp("checkpoints") / name, **options
            )
        return built[name]

    return build


@pytest.fixture(scope="session")
def plain_checkpoint(build_checkpoint: Callable[..., Path]) -> Path:
    """The layout of the published Wan 2.1: four VAE levels; here with Euler and weights in
    shards.
    """
    return build_checkpoint(seed=1, plain_vae=True, euler=True, shard=True)


@pytest.fixture(scope="session")
def patch_checkpoint(build_checkpoint: Callable[..., Path]) -> Path:
    """The layout of the bundled checkpoint: a VAE of patches, UniPC, one file a component."""
    return build_checkpoint(seed=2, plain_vae=False, euler=False, shard=False)


@pytest.fixture(scope="session")
def build_family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds a tiny random checkpoint of the family it is told, once, in a folder of the
    family's name.
    """
    from tests.checkpoints import BUILDERS

    folder = tmp_path_factory.mktemp("families")

    def build(family: str) -> Path:
        return folder / family if (folder / family).exists() else BUILDERS[family](folder / family)

    return build


@pytest.fixture(
    scope="session",
    params=[family.name for family in FAMILIES.values() if not family.defaults.denoising_timesteps],
)
def family_checkpoint(request: pytest.FixtureRequest, build_family: Callable[[str], Path]) -> Path:
    """Each family in turn, but for the distilled ones: their checkpoints are another family's
    but for a name.
    """
    return build_family(request.param)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One repository cache for the whole session: exporting is the slow part."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def repository(patch_checkpoint: Path, cache: Path) -> Path:
    """The model repository of a tiny checkpoint, with the default settings."""
    # They import torch.
    from export.repository import prepare_repository
    from pipeline.checkpoint.folder import Checkpoint
    from pipeline.settings import StageSettings

    settings = StageSettings(checkpoint=str(patch_checkpoint))
    return prepare_repository(
        Checkpoint.open(patch_checkpoint), settings, lambda message: None, cache
    )
