"""USP on threads instead of processes matches reference attention: fast, and without gloo."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.parallel.mesh import Mesh
from pipeline.parallel.usp import Shared, usp_attention

WIDTH, TEXT = 8, 6
MASK = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
TOLERANCE = 2e-6  # measured: 5e-7


class Exchange:
    """Slots and a barrier through which the ranks of one axis exchange tensors."""

    def __init__(self, size: int) -> None:
        self.slots: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=20)


@dataclass
class ThreadAxis:
    """The collectives of `pipeline.parallel.mesh.Axis`, implemented among threads."""

    index: int
    exchange: Exchange
    shifts: int = 0

    @property
    def size(self) -> int:
        return len(self.exchange.slots)

    def _all(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        self.exchange.slots[self.index] = tensor.clone()
        self.exchange.barrier.wait()
        found = list(self.exchange.slots)
        self.exchange.barrier.wait()
        return found

    def all_to_all(self, chunks: torch.Tensor) -> torch.Tensor:
        return torch.stack([sent[self.index] for sent in self._all(chunks)])

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._all(tensor))

    def start_shift(self, tensor: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
        self.shifts += 1
        received = torch.full_like(tensor, float("nan"))
        sent = self._all(tensor)[self.index - 1]

        class Work:
            def wait(self) -> None:
                received.copy_(sent)

        return received, [Work()]


def meshes(ulysses: int, ring: int) -> list[Any]:
    rows = [Exchange(ulysses) for _ in range(ring)]
    columns = [Exchange(ring) for _ in range(ulysses)]
    return [
        Mesh(ThreadAxis(column, rows[row]), ThreadAxis(row, columns[column]))
        for row in range(ring)
        for column in range(ulysses)
    ]


def written_out(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Return softmax attention in float64; ``mask`` is [B, K], True where attended."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v.double())


def drawn(seed: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn((3, *shape), generator=generator)
    return q, k, v


def on_ranks(
    ulysses: int, ring: int, length: int, heads: int, text: Shared | None
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """Return the whole sequence, and the text as each rank has it."""
    ranks = ulysses * ring
    q, k, v = drawn(1, 2, length, heads, WIDTH)
    # What fills the last shard up must have no effect.
    filled = [
        torch.cat((tensor, torch.full((2, -length % ranks, heads, WIDTH), 7.0)), dim=1)
        for tensor in (q, k, v)
    ]

    def run(rank: int, mesh: Any) -> Any:
        shards = [tensor.chunk(ranks, 1)[rank] for tensor in filled]
        return usp_attention(*shards, mesh, length, text)

    with ThreadPoolExecutor(ranks) as pool:
        made = list(pool.map(run, range(ranks), meshes(ulysses, ring)))
    return torch.cat([part for part, _ in made], dim=1)[:, :length], [shared for _, shared in made]


@pytest.mark.parametrize("layout", [(1, 1), (2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (4, 2), (2, 4)])
@pytest.mark.parametrize("length", [16, 13, 9])
@pytest.mark.parametrize("kind", ["video", "joint", "masked"])
def test_ranks_match_reference_attention(layout: tuple[int, int], length: int, kind: str) -> None:
    heads = 3
    q, k, v = drawn(1, 2, length, heads, WIDTH)
    mask = torch.ones(2, length, dtype=torch.bool)
    text = None
    if kind != "video":
        text = Shared(*drawn(2, 2, TEXT, heads, WIDTH), mask=MASK if kind == "masked" else None)
        q, k, v = (
            torch.cat(pair, dim=1)
            for pair in zip((q, k, v), (text.query, text.key, text.value), strict=True)
        )
        mask = torch.cat((mask, MASK if kind == "masked" else torch.ones_like(MASK)), dim=1)
    expected = written_out(q, k, v, mask)

    sequence, texts = on_ranks(*layout, length, heads, text)

    np.testing.assert_allclose(sequence, expected[:, :length], rtol=0, atol=TOLERANCE)
    for own in texts:
        if text is None:
            assert own is None
        else:
            assert own is not None
            np.testing.assert_allclose(own, expected[:, length:], rtol=0, atol=TOLERANCE)


def test_ring_of_three_ranks_shifts_blocks_twice() -> None:
    ring = meshes(1, 3)
    q, k, v = drawn(1, 2, 9, 2, WIDTH)
    with ThreadPoolExecutor(3) as pool:
        list(
            pool.map(
                lambda pair: usp_attention(
                    *(t.chunk(3, 1)[pair[0]] for t in (q, k, v)), pair[1], 9
                ),
                enumerate(ring),
            )
        )
    assert [mesh.ring.shifts for mesh in ring] == [2, 2, 2]


def test_result_has_the_dtype_of_the_query() -> None:
    q, k, v = (tensor.bfloat16() for tensor in drawn(1, 2, 8, 2, WIDTH))
    (part, _), *_ = ThreadPoolExecutor(2).map(
        lambda pair: usp_attention(*(t.chunk(2, 1)[pair[0]] for t in (q, k, v)), pair[1], 8),
        enumerate(meshes(1, 2)),
    )
    assert part.dtype == torch.bfloat16
