"""Unified sequence parallelism: Ulysses inside, Ring outside (arXiv:2405.07719).

Each of U x R ranks holds a shard of the sequence. Ulysses (arXiv:2309.14509) exchanges it, all to
all, for the sequence of U shards and 1/U of the heads; Ring then passes keys and values around R
ranks and merges the results of the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from pipeline.parallel.attention import Partial, attend, attend_block
from pipeline.parallel.backends import Kernel
from pipeline.parallel.mesh import Mesh


@dataclass(frozen=True)
class Shared:
    """Tokens that every rank holds whole and that are appended to the sequence: text, in joint
    attention.

    ``query``, ``key`` and ``value`` are [B, T, H, D]; ``mask`` is bool [B, T], where True marks
    tokens that are attended to. None means all of them.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None = None


def usp_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mesh: Mesh,
    length: int,
    shared: Shared | None = None,
    kernel: Kernel = "native",
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compute the attention of a sequence of ``length`` tokens, of which each rank holds a shard
    [B, S, H, D] of equal size.

    Shards are in the order of ``mesh.sequence``; the last ones may end with padding, which is never
    attended to. Returns this rank's shard [B, S, H, D], and the shared tokens [B, T, H, D], the
    same on all ranks.
    """
    heads = query.shape[2]
    q, k, v = query, key, value
    if mesh.ulysses.size > 1:
        q, k, v = _trade_sequence_for_heads(torch.stack((query, key, value)), mesh)
    text = _own_heads(shared, mesh) if shared else None
    joined = torch.cat((q, text.query), dim=1) if text else q
    out = _around_the_ring(joined, k, v, mesh, length, text, kernel)
    sequence = _trade_heads_for_sequence(out[:, : q.shape[1]], mesh, heads)
    if text is None:
        return sequence, None
    gathered = mesh.ulysses.all_gather(out[:, q.shape[1] :])  # [U, B, T, H / U, D]
    return sequence, gathered.permute(1, 2, 0, 3, 4).flatten(2, 3)[:, :, :heads]


def _around_the_ring(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mesh: Mesh,
    length: int,
    text: Shared | None,
    kernel: Kernel,
) -> torch.Tensor:
    if mesh.ring.size == 1:
        keys = _with_text(key[:, :length], value[:, :length], text)
        return attend(query, *keys, kernel=kernel)
    held, size = torch.stack((key, value)), key.shape[1]
    total = attend_block(query, text.key, text.value, text.mask, kernel) if text else None
    for step in range(mesh.ring.size):
        last = step == mesh.ring.size - 1
        # The next block travels while this one is attended to.
        arriving, works = (held, []) if last else mesh.ring.start_shift(held)
        owner = (mesh.ring.index - step) % mesh.ring.size
        if (valid := min(size, length - owner * size)) > 0:
            part = attend_block(query, *held[:, :, :valid], kernel=kernel)
            total = total.merge(part) if total else part
        for work in works:
            work.wait()
        held = arriving
    assert isinstance(total, Partial)
    return total.out.transpose(1, 2).to(query.dtype)


def _with_text(
    key: torch.Tensor, value: torch.Tensor, text: Shared | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    if text is None:
        return key, value, None
    mask = None
    if text.mask is not None:
        mask = torch.cat((text.mask.new_ones(key.shape[:2]), text.mask), dim=1)
    return torch.cat((key, text.key), dim=1), torch.cat((value, text.value), dim=1), mask


def _trade_sequence_for_heads(qkv: torch.Tensor, mesh: Mesh) -> torch.Tensor:
    """Convert [3, B, S, H, D] to [3, B, U x S, H / U, D].

    If U does not divide the heads, they are padded with zeros.
    """
    split = _pad_heads(qkv, mesh).unflatten(3, (mesh.ulysses.size, -1)).movedim(3, 0)
    return mesh.ulysses.all_to_all(split).permute(1, 2, 0, 3, 4, 5).flatten(2, 3)


def _trade_heads_for_sequence(out: torch.Tensor, mesh: Mesh, heads: int) -> torch.Tensor:
    """Convert [B, U x S, H / U, D] to [B, S, H, D]."""
    split = out.unflatten(1, (mesh.ulysses.size, -1)).movedim(1, 0)
    return mesh.ulysses.all_to_all(split).permute(1, 2, 0, 3, 4).flatten(2, 3)[:, :, :heads]


def _own_heads(shared: Shared, mesh: Mesh) -> Shared:
    size, index = mesh.ulysses.size, mesh.ulysses.index
    own = (
        _pad_heads(part, mesh).chunk(size, dim=-2)[index]
        for part in (shared.query, shared.key, shared.value)
    )
    return Shared(*own, mask=shared.mask)


def _pad_heads(tensor: torch.Tensor, mesh: Mesh) -> torch.Tensor:
    return functional.pad(tensor, (0, 0, 0, -tensor.shape[-2] % mesh.ulysses.size))
