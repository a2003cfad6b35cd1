"""Run an export: hash, plan, make the parts, render, write the manifest and put the folder in
place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from export.atomic_dir import placing, require_place
from export.cache import open_cache
from export.hashes import FileHashes
from export.manifest import FILE_NAME as MANIFEST
from export.manifest import FileRecord, Manifest, Source
from export.options import ExportOptions
from export.parts import EXPORTED, files_in, make_parts, parts_of
from export.plan import ExportPlan, plan_of
from export.progress import ProgressView, counting
from export.records import COMPONENT_FILE, ComponentRecord
from export.repository import render_repository
from export.soundness import require_sound
from pipeline.checkpoint.folder import DEFAULTS_FILE, Checkpoint
from pipeline.checkpoint.hub import Origin
from pipeline.families.step_cache.table import FILE_NAME as STEP_CACHE_FILE
from pipeline.settings import StageSettings


def export(
    checkpoint: Checkpoint,
    output: Path,
    options: ExportOptions,
    view: ProgressView,
    *,
    settings: StageSettings | None = None,
    origin: Origin | None = None,
    overwrite: bool = False,
    cache: Path | None = None,
) -> Manifest:
    """Write a model repository for ``checkpoint`` to the folder ``output``: whole, or not at all.

    Parts that an earlier or killed run has made are taken from the cache. ``settings`` become the
    stages' ``stage.json``. Raises ``CheckpointError`` and ``OutputError``.
    """
    settings = settings or StageSettings(checkpoint=str(checkpoint.path))
    cache = open_cache(cache)
    require_place(output, replace=overwrite, is_ours=is_exported)
    require_sound(checkpoint, cache, lambda text: view.message("checkpoint", text))
    source = _source(
        checkpoint,
        origin or Origin(checkpoint.path),
        FileHashes(cache, _read_counter(checkpoint, view)),
    )
    view.done("checkpoint", "read")
    hashes = FileHashes(cache)
    parts = parts_of(checkpoint, options, cache, hashes)
    plan_of(checkpoint, parts, options, output, cache).require_space()
    make_parts(checkpoint.path, parts, options, hashes, _part_view(view))
    view.message("repository", "writing")
    with placing(output, replace=overwrite, is_ours=is_exported) as folder:
        render_repository(checkpoint, settings, parts, folder, options.flavour)
        manifest = Manifest(
            model=checkpoint.info.name,
            family=checkpoint.family.name,
            source=source,
            options=options,
            precision=settings.precision,
            components=tuple(_record(part) for part in parts.values()),
            files=tuple(records_of(folder, hashes)),
        )
        manifest.save(folder)
    view.done("repository", "written")
    return manifest


def plan(
    checkpoint: Checkpoint,
    output: Path,
    options: ExportOptions,
    view: ProgressView,
    cache: Path | None = None,
) -> ExportPlan:
    """Return what `export` would do. It only reads, and remembers the hashes of what it read."""
    cache = open_cache(cache)
    require_sound(checkpoint, cache, lambda text: view.message("checkpoint", text))
    parts = parts_of(checkpoint, options, cache, FileHashes(cache, _read_counter(checkpoint, view)))
    view.done("checkpoint", "read")
    return plan_of(checkpoint, parts, options, output, cache)


def is_exported(folder: Path) -> bool:
    """Return whether the folder has a manifest, of any version."""
    return (folder / MANIFEST).is_file()


def checkpoint_files(checkpoint: Checkpoint) -> list[Path]:
    """Return every file of the checkpoint that is read."""
    names = ("model_index.json", DEFAULTS_FILE, STEP_CACHE_FILE)
    root = [checkpoint.path / name for name in names]
    inner = [
        file
        for component in checkpoint.family.components
        for file in files_in(checkpoint.path / component)
    ]
    return [*(file for file in root if file.is_file()), *inner]


def records_of(folder: Path, hashes: FileHashes) -> Iterator[FileRecord]:
    """Yield the record of every file below ``folder``, ordered by path."""
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        yield _file_record(file, folder, hashes)


def _source(checkpoint: Checkpoint, origin: Origin, hashes: FileHashes) -> Source:
    records = tuple(
        _file_record(file, checkpoint.path, hashes) for file in checkpoint_files(checkpoint)
    )
    return Source(
        path=str(checkpoint.path),
        repository=origin.repository,
        revision=origin.revision,
        files=records,
    )


def _file_record(file: Path, folder: Path, hashes: FileHashes) -> FileRecord:
    return FileRecord(
        path=str(file.relative_to(folder)), size=file.stat().st_size, sha256=hashes.of(file)
    )


def _record(part: Path) -> ComponentRecord:
    return ComponentRecord.model_validate_json((part / COMPONENT_FILE).read_bytes())


def _read_counter(checkpoint: Checkpoint, view: ProgressView) -> Callable[[int], None]:
    """Return a function that shows how many megabytes were hashed; it is never called where all
    hashes are known.
    """
    return counting(
        view, "checkpoint", sum(file.stat().st_size for file in checkpoint_files(checkpoint))
    )


def _part_view(view: ProgressView) -> Callable[[str, str], None]:
    def tell(part: str, text: str) -> None:
        (view.done if text == EXPORTED else view.message)(part, text)

    return tell
