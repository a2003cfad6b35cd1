"""Verify that an exported repository is still what its manifest says. Every byte is read again,
also those of the checkpoint.

Then the graphs are compared with their torch modules again, as when they were exported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from export import child, tensorrt
from export.child import Child
from export.hashes import sha256
from export.manifest import FILE_NAME, FileRecord, Manifest
from export.progress import ProgressView, counting
from export.repository import part_folder
from pipeline.byte_sizes import human_size
from pipeline.errors import CheckpointError


def verify(repository: Path, view: ProgressView) -> Manifest:
    """Return the manifest if everything agrees with it. Raises ``CheckpointError`` that names the
    first file at fault.

    All others at fault are notes in ``view``.
    """
    manifest = Manifest.load(repository)
    source = Path(manifest.source.path)
    faults = list(_faults(manifest, repository, source, view))
    for fault in faults[1:]:
        view.note(fault)
    faults = faults or list(_disparities(manifest, repository, source, view))
    if faults:
        more = f" ({len(faults)} files are at fault)" if len(faults) > 1 else ""
        raise CheckpointError(f"{faults[0]}{more}; export the checkpoint again")
    return manifest


def _faults(
    manifest: Manifest, repository: Path, source: Path, view: ProgressView
) -> Iterator[str]:
    yield from _changed(manifest.files, repository, view, "repository")
    yield from _unknown(manifest.files, repository)
    if not source.is_dir():
        yield f"the checkpoint {source} is not on this machine, and dit reads its weights from it"
        return
    yield from _changed(manifest.source.files, source, view, "checkpoint")
    yield from _foreign(repository)


def _disparities(
    manifest: Manifest, repository: Path, source: Path, view: ProgressView
) -> Iterator[str]:
    """Compare the parts sequentially, each in a separate process: both models are in memory."""
    for component in manifest.components:
        folder = part_folder(repository, component.part)
        if not component.graphs or not (folder / component.graphs[0].file).exists():
            continue  # torch decodes, or an engine does, which only its GPU can run
        view.message(component.part, "comparing with torch")
        part = Child(component.part, source, folder, manifest.options, child.PARITY_MODULE)
        if why := part.run(lambda line, stage=component.part: view.message(stage, line)):
            yield f"{folder}: {why}"
        else:
            view.done(component.part, "equals torch")


def _changed(
    records: Iterable[FileRecord], folder: Path, view: ProgressView, stage: str
) -> Iterator[str]:
    records = list(records)
    total = sum(record.size for record in records)
    add = counting(view, stage, total)
    for record in records:
        path = folder / record.path
        try:
            size = path.stat().st_size
            if size != record.size:
                yield f"{path} has {size} bytes; its manifest has {record.size}"
            elif sha256(path, add) != record.sha256:
                yield f"{path} is not what was exported: its sha256 differs"
        except FileNotFoundError:
            yield f"{path} is missing"
        except OSError as error:
            yield f"{path} cannot be read: {error.strerror}"
    view.done(stage, f"read {human_size(total)}")


def _foreign(repository: Path) -> Iterator[str]:
    """Yield the engines that this machine's TensorRT cannot run."""
    for plan in sorted(repository.rglob("*.plan")):
        try:
            tensorrt.verify(plan)
        except CheckpointError as error:
            yield str(error)


def _unknown(records: Iterable[FileRecord], repository: Path) -> Iterator[str]:
    known = {record.path for record in records} | {FILE_NAME}
    for path in sorted(repository.rglob("*")):
        # Python leaves bytecode beside a model.py that was served from here.
        if (
            path.is_file()
            and path.suffix != ".pyc"
            and str(path.relative_to(repository)) not in known
        ):
            yield f"{path} is not in the manifest"
