"""One process of `bench/usp.py`: a transformer whole, or its part on one of two ranks, run when
asked.

    python bench/lib/usp_rank.py alone|0|1 FOLDER CONFIG

Each line of standard input is a JSON object of side, grid and passes; the answer is one too. A
process keeps its number of threads for life: after a change the first passes of torch are slow,
which would be laid to one side's account.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.parallel.layout import Layout
from pipeline.parallel.mesh import Axis, Mesh
from pipeline.parallel.sharding import shard_transformer

RANKS = 2
LAYOUTS = (Layout(2, 1), Layout(1, 2))
CHANNELS, TEXT, TEXT_WIDTH = 16, 64, 64


@dataclass
class Clock:
    """Seconds that this rank has waited for others; that a slower rank is late counts as well."""

    seconds: float = 0.0

    def __enter__(self) -> None:
        self.seconds -= time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter()


@dataclass(frozen=True)
class TimedWork:
    work: dist.Work
    clock: Clock

    def wait(self) -> None:
        with self.clock:
            self.work.wait()


@dataclass(frozen=True)
class TimedAxis(Axis):
    """An axis whose collectives are timed; that of a shift is the time until it is waited for."""

    clock: Clock = field(default_factory=Clock, compare=False)

    def all_to_all(self, chunks: torch.Tensor) -> torch.Tensor:
        with self.clock:
            return super().all_to_all(chunks)

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        with self.clock:
            return super().all_gather(tensor)

    def start_shift(self, tensor: torch.Tensor) -> tuple[torch.Tensor, list[dist.Work]]:
        with self.clock:
            received, works = super().start_shift(tensor)
        return received, [cast("dist.Work", TimedWork(work, self.clock)) for work in works]


class Side:
    """The model in one layout."""

    def __init__(self, config: dict[str, Any], layout: Layout) -> None:
        self._clock = Clock()
        torch.manual_seed(0)
        self._model: Any = WanTransformer3DModel(
            in_channels=CHANNELS, out_channels=CHANNELS, text_dim=TEXT_WIDTH, freq_dim=64, **config
        ).eval()
        self._mesh = _timed(Mesh.create(layout), self._clock) if layout.ranks > 1 else Mesh()
        shard_transformer(self._model, self._mesh)

    def run(self, grid: Sequence[int], passes: int) -> dict[str, float]:
        """Seconds, seconds waited, and bytes sent of ``passes`` forward passes."""
        inputs = _inputs(grid)
        if self._mesh.sequence.size > 1:
            dist.barrier()
        waited, sent, began = (
            self._clock.seconds,
            self._mesh.traffic.bytes_sent,
            time.perf_counter(),
        )
        for _ in range(passes):
            self._model(**inputs, return_dict=False)
        return {
            "seconds": time.perf_counter() - began,
            "waited": self._clock.seconds - waited,
            "sent": self._mesh.traffic.bytes_sent - sent,
        }


def main(place: str, folder: Path, config: dict[str, Any]) -> None:
    if place == "alone":
        sides = [Side(config, Layout())]
    else:
        store = dist.FileStore(str(folder / "store"), RANKS)
        dist.init_process_group("gloo", store=store, rank=int(place), world_size=RANKS)
        sides = [Side(config, layout) for layout in LAYOUTS]
    torch.set_num_threads(RANKS if place == "alone" else 1)
    with torch.inference_mode():
        for line in sys.stdin:
            asked = json.loads(line)
            print(json.dumps(sides[asked["side"]].run(asked["grid"], asked["passes"])), flush=True)
    if place != "alone":
        dist.destroy_process_group()


def _inputs(grid: Sequence[int]) -> dict[str, torch.Tensor]:
    """For frames x rows x columns of tokens; a token is 2 x 2 latent pixels."""
    frames, rows, columns = grid
    return {
        "hidden_states": torch.randn(
            1, CHANNELS, frames, 2 * rows, 2 * columns, generator=torch.manual_seed(1)
        ),
        "timestep": torch.tensor([700.0]),
        "encoder_hidden_states": torch.randn(1, TEXT, TEXT_WIDTH, generator=torch.manual_seed(2)),
    }


def _timed(mesh: Mesh, clock: Clock) -> Mesh:
    def timed(axis: Axis) -> Axis:
        if axis.size == 1:
            return axis
        return TimedAxis(axis.size, axis.index, axis.group, axis.traffic, clock)

    return replace(
        mesh, ulysses=timed(mesh.ulysses), ring=timed(mesh.ring), sequence=timed(mesh.sequence)
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
