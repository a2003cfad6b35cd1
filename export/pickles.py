"""Convert pickled weights to safetensors: a folder in the cache, with the checkpoint's other files.

A pickle may run code when it is read. These are read by ``torch.load(weights_only=True)``, which
only makes tensors, in a separate process (``python -m export.pickles CHECKPOINT OUTPUT``), and only
once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from export.cache import building, key, link
from export.child import bound_memory, reason
from export.hashes import FileHashes
from pipeline.checkpoint.folder import read_index
from pipeline.checkpoint.hub import Origin
from pipeline.checkpoint.regular_files import READ_SUFFIXES, read_json, require_own_files
from pipeline.errors import CheckpointError
from pipeline.families import family_of
from pipeline.system.child_environment import child_environment
from pipeline.system.own_modules import FOLDER, command

MAX_GROWTH = 2  # tied weights are stored once in a pickle, and twice in safetensors
MEMORY_BYTES = 8 << 30  # beside the weights themselves
STEMS = {"pytorch_model": "model", "diffusion_pytorch_model": "diffusion_pytorch_model"}
"""Name of pickled weights -> name of the same weights in safetensors."""


def without_pickles(origin: Origin, cache: Path) -> Origin:
    """Return the checkpoint with safetensors only: itself if it has no pickles, otherwise a folder
    in the cache.

    Raises ``CheckpointError`` for a pickle that holds more than weights.
    """
    require_own_files(origin.path, _components(origin.path), (*READ_SUFFIXES, ".bin"))
    pickles = list(pickled(origin.path))
    if not pickles:
        return origin
    hashes = FileHashes(cache)
    named = (f"{file.relative_to(origin.path)} {hashes.of(file)}" for file in pickles)
    target = cache / "converted" / key(str(origin.path), *named)
    with building(target) as folder:
        if folder:
            done = subprocess.run(
                command("export.pickles", str(origin.path), str(folder / origin.path.name)),
                cwd=FOLDER,
                env=child_environment(os.environ),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            if why := reason(done.returncode, done.stderr):
                raise CheckpointError(why, details=done.stderr)
    return replace(origin, path=target / origin.path.name)


def pickled(checkpoint: Path) -> Iterator[Path]:
    """Yield the pickled weights of components that have no safetensors."""
    for component in _components(checkpoint):
        for stem, safe in STEMS.items():
            for file in sorted((checkpoint / component).glob(f"{stem}*.bin")):
                if not any(file.parent.glob(f"{safe}*.safetensors")):
                    yield file


def convert(checkpoint: Path, output: Path) -> None:
    """Write the whole checkpoint to ``output``: pickles as safetensors, and all other files that
    are read unchanged.

    Those are hard links, or copies where links are impossible: a link that leads out of a
    checkpoint is not followed.
    """
    pickles = set(pickled(checkpoint))
    for file in (
        file for folder in (checkpoint, *_folders(checkpoint)) for file in sorted(folder.iterdir())
    ):
        target = output / file.relative_to(checkpoint)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file in pickles:
            _convert(file, target.with_name(_safe_name(file.name)))
        elif file.name.endswith(".bin.index.json"):
            _convert_index(file, target.with_name(_safe_name(file.name)))
        elif file.suffix in READ_SUFFIXES and file.is_file():
            link(file, target)


def _components(checkpoint: Path) -> tuple[str, ...]:
    return tuple(family_of(read_index(checkpoint)).components)


def _folders(checkpoint: Path) -> Iterator[Path]:
    return (checkpoint / name for name in _components(checkpoint) if (checkpoint / name).is_dir())


def _convert(file: Path, target: Path) -> None:
    import pickle

    import torch
    from safetensors.torch import save_file

    _require_stored(file)
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        # torch's own message advises weights_only=False, which runs code in the file.
        raise CheckpointError(
            f"{file} is damaged or holds more than weights, and is not read"
        ) from None
    except (RuntimeError, EOFError) as error:
        first = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{file} is damaged or holds more than weights, and is not read: {first}"
        ) from None
    _require_weights(file, tensors)
    # Tied weights are one tensor under two names, which the format does not have.
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        apart[name] = tensor.clone() if tensor.data_ptr() in seen else tensor.contiguous()
        seen.add(tensor.data_ptr())
    save_file(apart, target, metadata={"format": "pt"})


def _require_stored(file: Path) -> None:
    """Require that weights are stored uncompressed. Compressed or overlapping records would grow
    beyond the file when read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        why = f"it is not an archive of torch.save() ({error})"
        raise CheckpointError(
            f"{file} is damaged or holds more than weights, and is not read: {why}"
        ) from None
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise CheckpointError(
            f"{file} is compressed, as torch.save() never writes it, and is not read"
        )
    if sum(record.file_size for record in records) > file.stat().st_size:
        raise CheckpointError(f"{file} claims more bytes than it has, and is not read")


def _require_weights(file: Path, tensors: object) -> None:
    """Raise ``CheckpointError`` unless ``tensors`` maps names to tensors no larger than what is
    stored.
    """
    import torch

    total = 0
    for name, tensor in tensors.items() if isinstance(tensors, dict) else [("", tensors)]:
        if (
            not isinstance(name, str)
            or not isinstance(tensor, torch.Tensor)
            or tensor.layout is not torch.strided
        ):
            raise CheckpointError(
                f"{file} should map names to tensors; it holds {type(tensor).__name__} {name!r}"
            )
        total += tensor.numel() * tensor.element_size()
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(
                f"{file}: {name!r} repeats what is stored, and would grow when it is converted"
            )
    if total > MAX_GROWTH * file.stat().st_size:
        raise CheckpointError(f"{file} would grow to {total} bytes when it is converted")


def _convert_index(file: Path, target: Path) -> None:
    index = read_json(file)
    found = index.get("weight_map")
    if not isinstance(found, dict) or not all(
        str(shard).startswith(tuple(STEMS)) for shard in found.values()
    ):
        raise CheckpointError(f"{file} should map each weight to a .bin file in the same folder")
    index["weight_map"] = {name: _safe_name(shard) for name, shard in found.items()}
    target.write_text(json.dumps(index), encoding="utf-8")


def _safe_name(name: str) -> str:
    """Return the safetensors name: ``pytorch_model-00001-of-2.bin`` becomes
    ``model-00001-of-2.safetensors``.
    """
    stem = next(stem for stem in STEMS if name.startswith(stem))
    return STEMS[stem] + name.removeprefix(stem).replace(".bin", ".safetensors")


def main(checkpoint: Path, output: Path) -> None:
    size = sum(file.stat().st_size for file in pickled(checkpoint))
    bound_memory(MEMORY_BYTES + 2 * size)
    convert(checkpoint, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
