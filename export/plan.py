"""Describe what an export will do and how much disk space it may take, before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from export.options import ExportOptions
from export.parts import source_files
from export.weights import bytes_needed
from pipeline.byte_sizes import human_size
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import OutputError
from pipeline.families.parts import VAE_DECODER, Part
from pipeline.settings import GraphPrecision

MARGIN_BYTES = 64 << 20  # graphs, records and the overhead of file systems


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedPart(_Model):
    """One part. ``graph_bytes`` is the most its files can take; weights shared with the checkpoint
    take nothing.
    """

    part: str
    class_name: str
    precision: GraphPrecision
    weight_bytes: int
    graph_bytes: int
    cached: bool


class DiskSpace(_Model):
    """What may be written below a folder, and what is free there, in bytes."""

    folder: str
    needed: int
    free: int


class ExportPlan(_Model):
    """The plan of one export. ``checkpoint_bytes`` is the size of the checkpoint, which ``dit``
    reads in place.
    """

    model: str
    family: str
    checkpoint: str
    checkpoint_bytes: int
    options: ExportOptions
    parts: tuple[PlannedPart, ...]
    rooms: tuple[DiskSpace, ...]

    def require_space(self) -> None:
        """Raise ``OutputError`` if a disk has too little free space."""
        for room in self.rooms:
            if room.free < room.needed:
                raise OutputError(
                    f"{room.folder} has {human_size(room.free)} free, and the export may take "
                    f"{human_size(room.needed)} there; free space, or set TRITON_VIDEO_CACHE to a "
                    "folder on another disk"
                )


def plan_of(
    checkpoint: Checkpoint,
    parts: Mapping[Part, Path],
    options: ExportOptions,
    output: Path,
    cache: Path,
) -> ExportPlan:
    """Return the plan of an export into ``output`` whose ``parts`` are in ``cache`` or will be."""
    planned = tuple(_part(checkpoint, part, folder, options) for part, folder in parts.items())
    all_bytes = sum(file.stat().st_size for file in checkpoint.path.rglob("*") if file.is_file())
    return ExportPlan(
        model=checkpoint.info.name,
        family=checkpoint.family.name,
        checkpoint=str(checkpoint.path),
        checkpoint_bytes=all_bytes,
        options=options,
        parts=planned,
        rooms=_rooms(planned, output, cache),
    )


def _part(checkpoint: Checkpoint, part: Part, folder: Path, options: ExportOptions) -> PlannedPart:
    weights = [file for file in source_files(checkpoint, part) if file.suffix == ".safetensors"]
    precision = options.precision_of(part)
    return PlannedPart(
        part=part.name,
        class_name=checkpoint.classes[part.component],
        precision=precision,
        weight_bytes=sum(file.stat().st_size for file in weights),
        graph_bytes=bytes_needed(
            checkpoint.path / part.component, precision, _copies(part, options)
        ),
        cached=folder.exists(),
    )


def _copies(part: Part, options: ExportOptions) -> int:
    """Return how often the part's weights are in its files: in each graph, and in each engine built
    from one.
    """
    engines = {"chunked": 2, "tile": 1, "torch": 0}
    graphs = engines[options.vae_engine] if part == VAE_DECODER else 1
    return graphs * (2 if options.flavour == "tensorrt" else 1)


def _rooms(planned: tuple[PlannedPart, ...], output: Path, cache: Path) -> tuple[DiskSpace, ...]:
    """Return the space needed: the cache's disk takes what is not cached yet; another disk takes a
    copy of everything.
    """
    cache, output = _existing(cache), _existing(output)
    new = sum(part.graph_bytes for part in planned if not part.cached) + MARGIN_BYTES
    rooms = [DiskSpace(folder=str(cache), needed=new, free=shutil.disk_usage(cache).free)]
    if output.stat().st_dev != cache.stat().st_dev:
        copied = sum(part.graph_bytes for part in planned) + MARGIN_BYTES
        rooms.append(
            DiskSpace(folder=str(output), needed=copied, free=shutil.disk_usage(output).free)
        )
    return tuple(rooms)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
