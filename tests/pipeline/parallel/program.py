"""Run one rank of the tests: ``python -m tests.pipeline.parallel.program RANK FOLDER``.

The program compares every layout of four ranks with one rank, on gloo, and writes the largest
differences to ``FOLDER``. A sequence on two ranks runs twice, as the two branches of guidance do.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from pipeline.parallel.layout import Layout
from pipeline.parallel.mesh import Mesh
from pipeline.parallel.sharding import shard_transformer
from pipeline.parallel.usp import Shared, usp_attention
from tests.pipeline.parallel.transformers import TRANSFORMERS

LENGTHS = (16, 13, 5, 2)
HEADS, TEXT, WIDTH = 3, 6, 8
RANKS = 4
LAYOUTS = (Layout(2, 1, 2), Layout(1, 2, 2), Layout(4, 1), Layout(2, 2), Layout(1, 4))


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(folder / "store"), RANKS), rank=rank, world_size=RANKS
    )
    found: dict[str, dict[str, float]] = {}
    with torch.inference_mode():
        for layout in LAYOUTS:
            mesh = Mesh.create(layout)
            found[f"{layout.ulysses}x{layout.ring}"] = {
                **attention_errors(mesh),
                **model_errors(mesh),
            }
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def attention_errors(mesh: Mesh) -> dict[str, float]:
    found = {}
    for length in LENGTHS:
        q, k, v = drawn(3, 2, length, HEADS, WIDTH)
        text = Shared(
            *drawn(3, 2, TEXT, HEADS, WIDTH),
            mask=torch.tensor([[True] * 4 + [False] * 2, [True] * 6]),
        )
        for name, shared in (("video", None), ("joint", text)):
            whole, whole_text = usp_attention(q, k, v, Mesh(), length, shared)
            part, part_text = usp_attention(
                *(shard(t, mesh) for t in (q, k, v)), mesh, length, shared
            )
            # Rows past the end are padding, whose values mean nothing.
            rows = min(part.shape[1], max(0, length - mesh.sequence.index * part.shape[1]))
            errors = [(part - shard(whole, mesh))[:, :rows].abs().amax().item() if rows else 0.0]
            if whole_text is not None:
                errors.append((part_text - whole_text).abs().amax().item())
            found[f"{name} {length}"] = float(np.max(errors))
    return found


def model_errors(mesh: Mesh) -> dict[str, float]:
    found = {}
    for name, build in TRANSFORMERS.items():
        model, inputs = build()
        (whole,) = model(**inputs, return_dict=False)
        shard_transformer(model, mesh)
        (parted,) = model(**inputs, return_dict=False)
        assert whole.std() > 0.1, "a flat output would hide mistakes"
        found[name] = (parted - whole).abs().max().item()
    return found


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def shard(tensor: torch.Tensor, mesh: Mesh) -> torch.Tensor:
    axis = mesh.sequence
    padded = torch.nn.functional.pad(tensor, (0, 0, 0, 0, 0, -tensor.shape[1] % axis.size))
    return padded.chunk(axis.size, 1)[axis.index]


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
