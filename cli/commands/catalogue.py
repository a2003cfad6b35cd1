"""The supported families, and the checkpoints and caches on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cli.failure import one_line
from cli.output.table import table
from cli.run.checkpoints import bundled_checkpoint
from pipeline.byte_sizes import human_size
from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.regular_files import read_json
from pipeline.errors import CheckpointError
from pipeline.families import FAMILIES, family_of
from pipeline.system.cache_folder import COMPILED, cache_folder

PREFIX = "models--"  # of folders in the hub's cache: models--Org--Name


@dataclass(frozen=True)
class Found:
    """A checkpoint on this machine: its ``--model-path``, and the ``problem`` if it is broken."""

    model_path: str
    family: str
    bytes: int
    problem: str | None = None


@dataclass(frozen=True)
class Catalogue:
    """The checkpoints, and the size in bytes of each cache folder."""

    checkpoints: list[Found]
    caches: dict[str, int]

    def described(self) -> dict[str, object]:
        """Return the content for JSON."""
        families = [
            {"name": family.name, "picture": family.image, **family.defaults.model_dump()}
            for family in FAMILIES.values()
        ]
        return {
            "families": families,
            "checkpoints": [asdict(found) for found in self.checkpoints],
            "caches": self.caches,
        }


def catalogue(environment: Mapping[str, str]) -> Catalogue:
    """Find the bundled checkpoint, and those in the hub's cache, and measure the caches."""
    bundled = bundled_checkpoint()
    checkpoints = [_checked("(bundled)", bundled, size_of(bundled))]
    checkpoints += _on_the_hub(hub_cache(environment))
    cache = cache_folder()
    caches = {
        str(folder): size_of(folder)
        for folder in (cache / "parts", cache / "repositories", cache / COMPILED)
        if folder.is_dir()
    }
    return Catalogue(checkpoints, caches)


def hub_cache(environment: Mapping[str, str]) -> Path:
    """Return the folder of huggingface_hub's downloads, by its environment variables."""
    if folder := environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE"):
        return Path(folder).expanduser()
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    home = environment.get("HF_HOME") or f"{base}/huggingface"
    return Path(home).expanduser() / "hub"


def size_of(folder: Path) -> int:
    """Return the bytes of the files below ``folder``; hard links count once, other links never."""
    sizes: dict[tuple[int, int], int] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            # A Path per file takes ten times as long.
            status = os.lstat(os.path.join(root, name))  # noqa: PTH118
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def catalogue_text(found: Catalogue) -> str:
    """Return the content as tables."""
    return "\n".join(_lines(found))


def _lines(found: Catalogue) -> Iterator[str]:
    rows = []
    for family in FAMILIES.values():
        d = family.defaults
        size, *rest = (
            f"{d.width}x{d.height}",
            str(d.num_frames),
            str(d.fps),
            str(d.num_inference_steps),
        )
        rows.append((family.name, size, *rest, family.image))
    yield from table(("family", "size", "frames", "fps", "steps", "picture"), rows)
    yield ""
    checkpoints = [
        (c.model_path, c.family, human_size(c.bytes), c.problem or "ready")
        for c in found.checkpoints
    ]
    yield from table(("checkpoint (--model-path)", "family", "size", "state"), checkpoints)
    if found.caches:
        yield ""
        yield from table(
            ("cache", "size"), [(folder, human_size(size)) for folder, size in found.caches.items()]
        )


def _on_the_hub(cache: Path) -> Iterator[Found]:
    """Yield the repositories with a Diffusers pipeline, each revision separately.

    The revision of ``main`` is named without its commit.
    """
    for repository in sorted(cache.glob(f"{PREFIX}*")):
        name = repository.name.removeprefix(PREFIX).replace("--", "/")
        main = repository / "refs" / "main"
        commit = _first_bytes(main).strip() if main.is_file() else ""
        size = size_of(repository)
        for snapshot in sorted((repository / "snapshots").glob("*")):
            if (snapshot / "model_index.json").exists():
                yield _checked(
                    name if snapshot.name == commit else f"{name}@{snapshot.name}", snapshot, size
                )


def _first_bytes(file: Path) -> str:
    """Return the beginning of a file that should contain a commit of 40 characters."""
    with file.open("rb") as opened:
        return opened.read(100).decode(errors="replace")


def _checked(name: str, folder: Path, size: int) -> Found:
    family = "-"
    try:
        family = family_of(read_json(folder / "model_index.json")).name
        Checkpoint.open(folder)
    except CheckpointError as error:
        return Found(name, family, size, one_line(str(error)))
    return Found(name, family, size)
