"""Fixtures that several packages share, and the marks of what a test needs (`tests.needs`).

What is slow to make is made once a run: with pytest-xdist the workers share one folder.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from export.cache import building
from pipeline.families import FAMILIES
from pipeline.system.telemetry import opt_out
from tests.needs import Guard, marks_of
from tests.workers import position, scheduler

# A shell that starts the tests in the background ignores Ctrl-C for them, and so for every program
# they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Before a test imports a library that reports: tests reach nothing but loopback.
opt_out()

ROOT = Path(__file__).resolve().parent.parent
SHAPES = ROOT / "models" / "shapes"
GUARD = Guard()
WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if WORKER:
    # There is a worker for each core: with more threads they would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    # On a machine with fewer GPUs than a test has ranks it would fail. `-m gpu` shows them.
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.hookimpl(tryfirst=True)  # before pytest selects by mark
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for mark in marks_of(item):
            item.add_marker(mark)
    if WORKER:
        items.sort(key=position)


def pytest_collection_finish() -> None:
    # The garbage collector would walk all imported modules again and again.
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    GUARD.item = item
    try:
        return (yield)
    finally:
        GUARD.item = None


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return scheduler(config, log)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the server does."""
    return "asyncio"


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run, the same for every worker."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if WORKER else base


@pytest.fixture(scope="session")
def make_once(run_folder: Path) -> Callable[[str, Callable[[Path], object]], Path]:
    """Fills a folder once a run: ``make_once(name, fill)`` calls ``fill`` with an empty folder
    unless one of that name is there, and returns the folder.
    """

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        target = run_folder / "made" / name
        with building(target) as folder:
            if folder is not None:
                fill(folder)
        return target

    return make


@pytest.fixture(scope="session")
def build_checkpoint(
    make_once: Callable[[str, Callable[[Path], object]], Path],
) -> Callable[..., Path]:
    """Builds a tiny random checkpoint once per set of options."""

    def build(**options: Any) -> Path:
        from tests import checkpoints  # torch and transformers: not for the tests that need neither

        name = "-".join(f"{key}{int(value)}" for key, value in sorted(options.items()))
        return make_once(name, lambda folder: checkpoints.build(folder, **options))

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
def build_family(
    make_once: Callable[[str, Callable[[Path], object]], Path],
) -> Callable[[str], Path]:
    """Builds a tiny random checkpoint of the family or variant it is given, once, in a folder of
    that name.
    """

    def build(family: str) -> Path:
        from tests.checkpoints import BUILDERS, VARIANTS

        return make_once(f"families/{family}", {**BUILDERS, **VARIANTS}[family])

    return build


@pytest.fixture(
    params=[family.name for family in FAMILIES.values() if not family.defaults.denoising_timesteps],
)
def family_checkpoint(request: pytest.FixtureRequest, build_family: Callable[[str], Path]) -> Path:
    """Each family in turn, but for the distilled ones: their checkpoints are another family's
    but for a name.
    """
    return build_family(request.param)


@pytest.fixture(scope="session")
def cache(run_folder: Path) -> Path:
    """One repository cache for the whole run: exporting is the slow part."""
    folder = run_folder / "cache"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def note_shapes_sound(
    make_once: Callable[[str, Callable[[Path], object]], Path],
) -> Callable[[Path], None]:
    """Notes in a cache that the bundled checkpoint is sound: ``note_shapes_sound(cache)``. It is
    checked once a run, in a process that imports torch.
    """

    def note(cache: Path) -> None:
        from export.soundness import require_sound
        from pipeline.checkpoint.folder import Checkpoint

        checked = make_once("sound", lambda folder: require_sound(Checkpoint.open(SHAPES), folder))
        shutil.copytree(checked / "sound", cache / "sound")

    return note


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
