"""Find the files of a LoRA, and the experts that each is for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.checkpoint.regular_files import entries_of, folders_read, require_inside
from pipeline.errors import CheckpointError, InputError
from pipeline.families.lora import NAME_PATTERN
from pipeline.families.parts import TRANSFORMERS

SUFFIX = ".safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_NOISE = re.compile(r"(high|low)[-_ ]?noise", re.IGNORECASE)
_PAIR = re.compile(r"(?:^|[^a-z])(high|low)(?:[^a-z]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """A file, and the folder that its configuration is in. ``expert`` is the index of the only
    transformer that it is for, or None.
    """

    file: Path
    folder: Path
    expert: int | None = None


def sources_of(path: Path) -> list[Source]:
    """Return the files of the LoRA ``path``: a file, or a folder with a file for all transformers
    or one for each.

    Files of experts are in ``transformer`` and ``transformer_2``, or their names say ``high`` and
    ``low``. Raises ``CheckpointError``.
    """
    path = path.expanduser().absolute()
    if not path.exists():
        raise CheckpointError(
            f"{path} is missing; a LoRA is a safetensors file, or a folder with one"
        )
    if not path.is_dir():
        _require_suffix(path)
        return [Source(path, path.parent, _expert_of(path, _NOISE))]
    parts = [path / name for name in TRANSFORMERS]
    if any(part.exists() for part in parts):
        return [
            Source(_only(part, path), part, expert)
            for expert, part in enumerate(parts)
            if part.exists()
        ]
    files = list(_files(path, path))
    if sorted(str(_expert_of(file, _PAIR)) for file in files) == ["0", "1"]:
        return [Source(file, path, _expert_of(file, _PAIR)) for file in files]
    file = _only(path, path)
    return [Source(file, path, _expert_of(file, _NOISE))]


def loras_in(folder: Path) -> dict[str, Path]:
    """Return the LoRAs in ``folder`` by name: its safetensors files, and its folders with some.

    Raises ``InputError`` for a missing folder and for a name that requests could not use.
    """
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise InputError("lora_path", f"{folder} is not a folder; it must be one of LoRAs")
    found: dict[str, Path] = {}
    for entry in entries_of(folder):
        is_file = entry.suffix == SUFFIX
        if entry.name.startswith(".") or not (is_file or _holds_files(entry)):
            continue
        require_inside(entry, folders_read(folder))
        name = entry.stem if is_file else entry.name
        if not re.fullmatch(NAME_PATTERN, name):
            raise InputError(
                "lora_path",
                f"{entry.name!r} cannot be a LoRA's name; rename it to at most 64 letters, digits, "
                "'.', '_' and '-'",
            )
        if name in found:
            raise InputError("lora_path", f"{found[name]} and {entry} have one name; rename one")
        found[name] = entry
    return found


def _holds_files(folder: Path) -> bool:
    return any(
        entry.suffix == SUFFIX
        for inner in (folder, *(folder / name for name in TRANSFORMERS))
        if inner.is_dir()
        for entry in entries_of(inner)
    )


def _files(folder: Path, root: Path) -> Iterator[Path]:
    for entry in entries_of(folder):
        if entry.suffix == SUFFIX:
            require_inside(entry, folders_read(root))
            yield entry


def _only(folder: Path, root: Path) -> Path:
    files = list(_files(folder, root))
    if len(files) == 1:
        return files[0]
    pickles = [entry.name for entry in entries_of(folder) if entry.suffix in PICKLES]
    if not files and pickles:
        _require_suffix(folder / pickles[0])
    raise CheckpointError(
        f"{folder} holds {len(files)} safetensors files; a LoRA is one, or one for each expert "
        "with high or low in its name"
    )


def _require_suffix(path: Path) -> None:
    if path.suffix != SUFFIX:
        why = "is a pickle, which is not loaded" if path.suffix in PICKLES else "is not a LoRA"
        raise CheckpointError(f"{path} {why}; a LoRA is a safetensors file, or a folder with one")


def _expert_of(file: Path, pattern: re.Pattern[str]) -> int | None:
    found = pattern.search(file.stem)
    return None if found is None else int(found[1].lower() == "low")
