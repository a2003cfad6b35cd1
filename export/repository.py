"""Rendering a model repository, and the cache of rendered ones that makes a second run start at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock

from export.graphs import export_graphs
from pipeline.checkpoint import Checkpoint
from pipeline.stages.settings import StageSettings

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "model_repository"
EXPORTERS = ("torch", "diffusers", "transformers", "onnx", "onnxscript")
# Stage -> (part of the exported graphs, its files in the stage's version folder).
ARTEFACTS = {
    "tokenizer": ("text_encoder", ("tokenizer.json",)),
    "text_encoder": ("text_encoder", ("model.onnx", "model.onnx.data")),
    "vae_decoder": ("vae_decoder", ("first.onnx", "first.onnx.data", "next.onnx", "next.onnx.data")),
}


def prepare_repository(
    checkpoint: Checkpoint, settings: StageSettings, on_progress: Callable[[str], None], cache: Path | None = None
) -> Path:
    """The model repository for this checkpoint and these settings; rendered unless the cache has it.

    Safe when several processes ask at once: one renders, the others wait. A folder in the cache is always whole.
    Raises ``CheckpointError`` when a part cannot be exported.
    """
    cache = cache or cache_folder()
    fingerprint = checkpoint.fingerprint()
    graphs = cache / "graphs" / _key(fingerprint, *map(_version, EXPORTERS), _source_hash("export"))
    sources = _source_hash("export", "model_repository")
    rendered = _key(graphs.name, settings.model_dump_json(), sources, checkpoint.info.model_dump_json())
    repository = cache / "repositories" / rendered
    if repository.exists():
        return repository
    with _building(graphs) as folder:
        if folder:
            export_graphs(checkpoint.path, folder, on_progress)
    with _building(repository) as folder:
        if folder:
            render_repository(checkpoint, settings, graphs, folder)
    return repository


def render_repository(checkpoint: Checkpoint, settings: StageSettings, graphs: Path, output: Path) -> None:
    """Write a whole model repository into the existing folder ``output``: configs, code, graphs and settings."""
    # grpc comes with it: not for a run that finds all in the cache.
    from export.configs import config_text, stage_configs

    for name, config in stage_configs(checkpoint.info).items():
        folder = output / name / "1"
        folder.mkdir(parents=True)
        (output / name / "config.pbtxt").write_text(config_text(config), encoding="utf-8")
        if (code := SOURCES / name / "1" / "model.py").exists():
            shutil.copyfile(code, folder / "model.py")
            checkpoint.info.save(folder)
            settings.save(folder)
        part, files = ARTEFACTS.get(name, ("", ()))
        for file in files:
            if (graphs / part / file).exists():
                _link(graphs / part / file, folder / file)


def cache_folder() -> Path:
    """``$TRITON_VIDEO_CACHE``, or ``triton-video`` in the user's cache folder."""
    if given := os.environ.get("TRITON_VIDEO_CACHE"):
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "triton-video"


@contextlib.contextmanager
def _building(target: Path) -> Iterator[Path | None]:
    """A private folder that becomes ``target`` when the block ends well; ``None`` when ``target`` is there already."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f"{target.name}.lock"):
        if target.exists():
            yield None
            return
        # Whoever held the lock before and left a part behind is dead.
        for stale in target.parent.glob(f".{target.name}-*"):
            shutil.rmtree(stale)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            yield folder
            folder.chmod(0o755)
            folder.rename(target)
        except BaseException:
            shutil.rmtree(folder)
            raise


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _source_hash(*folders: str) -> str:
    """Our own code is part of a key: an upgrade, or an edit while developing, renders anew."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
