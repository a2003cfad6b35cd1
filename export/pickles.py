"""Weights in pickles as safetensors: a folder in the cache beside which the checkpoint's other files are linked.

A pickle may run code when it is read. These are read by ``torch.load(weights_only=True)``, which makes tensors and
nothing else, in a process of its own (``python -m export.pickles CHECKPOINT OUTPUT``), and never again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from export.cache import ROOT, building, key
from export.child import reason
from export.hashes import FileHashes
from pipeline.errors import CheckpointError
from pipeline.hub import Origin

STEMS = {"pytorch_model": "model", "diffusion_pytorch_model": "diffusion_pytorch_model"}
"""Name of pickled weights -> name of the same weights in safetensors."""


def without_pickles(origin: Origin, cache: Path) -> Origin:
    """The same checkpoint with safetensors only: itself where it has no others, else a folder in the cache.

    Raises ``CheckpointError`` for a pickle that holds more than weights.
    """
    pickles = list(pickled(origin.path))
    if not pickles:
        return origin
    hashes = FileHashes(cache)
    named = (f"{file.relative_to(origin.path)} {hashes.of(file)}" for file in pickles)
    target = cache / "converted" / key(str(origin.path), *named)
    with building(target) as folder:
        if folder:
            command = [sys.executable, "-m", "export.pickles", str(origin.path), str(folder / origin.path.name)]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if why := reason(done.returncode, done.stderr):
                raise CheckpointError(why, details=done.stderr)
    return replace(origin, path=target / origin.path.name)


def pickled(checkpoint: Path) -> Iterator[Path]:
    """Weights of components that have no others."""
    for stem, safe in STEMS.items():
        for file in sorted(checkpoint.glob(f"*/{stem}*.bin")):
            if not any(file.parent.glob(f"{safe}*.safetensors")):
                yield file


def convert(checkpoint: Path, output: Path) -> None:
    """Write the whole checkpoint to ``output``: safetensors of the pickles, and links to all other files."""
    pickles = set(pickled(checkpoint))
    for file in (path for path in checkpoint.rglob("*") if path.is_file()):
        target = output / file.relative_to(checkpoint)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file in pickles:
            _convert(file, target.with_name(_safe_name(file.name)))
        elif file.name.endswith(".bin.index.json"):
            _convert_index(file, target.with_name(_safe_name(file.name)))
        else:
            target.symlink_to(file.resolve())


def _convert(file: Path, target: Path) -> None:
    import pickle

    import torch
    from safetensors.torch import save_file

    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        first = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{file} is damaged or holds more than weights, and is not read: {first}") from None
    # Tied weights are one tensor under two names, which the format does not have.
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        apart[name] = tensor.clone() if tensor.data_ptr() in seen else tensor.contiguous()
        seen.add(tensor.data_ptr())
    save_file(apart, target, metadata={"format": "pt"})


def _convert_index(file: Path, target: Path) -> None:
    index = json.loads(file.read_text(encoding="utf-8"))
    index["weight_map"] = {name: _safe_name(shard) for name, shard in index["weight_map"].items()}
    target.write_text(json.dumps(index), encoding="utf-8")


def _safe_name(name: str) -> str:
    """``pytorch_model-00001-of-2.bin`` -> ``model-00001-of-2.safetensors``."""
    stem = next(stem for stem in STEMS if name.startswith(stem))
    return STEMS[stem] + name.removeprefix(stem).replace(".bin", ".safetensors")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
