"""The ranks of one layout as axes of process groups, and the collectives that USP needs
along them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from pipeline.parallel.layout import Layout


@dataclass
class Traffic:
    """Counts the bytes that this rank has sent to others."""

    bytes_sent: int = 0


@dataclass(frozen=True)
class Axis:
    """The ranks that differ from this one in one coordinate only. An axis of one rank needs no
    process group.
    """

    size: int = 1
    index: int = 0
    group: dist.ProcessGroup | None = None
    traffic: Traffic = field(default_factory=Traffic, compare=False)

    def all_to_all(self, chunks: torch.Tensor) -> torch.Tensor:
        """Send ``chunks[i]`` to rank i and return what rank i sent to this one as item i.

        The shape and dtype stay the same.
        """
        if self.size == 1:
            return chunks
        chunks = chunks.contiguous()
        received = torch.empty_like(chunks)
        dist.all_to_all_single(received, chunks, group=self.group)
        self.traffic.bytes_sent += chunks.nbytes // self.size * (self.size - 1)
        return received

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensors of all ranks, stacked in a new first dimension. All have the same
        shape.
        """
        if self.size == 1:
            return tensor.unsqueeze(0)
        gathered = tensor.new_empty((self.size, *tensor.shape))
        dist.all_gather(list(gathered.unbind()), tensor.contiguous(), group=self.group)
        self.traffic.bytes_sent += tensor.nbytes * (self.size - 1)
        return gathered

    def start_shift(self, tensor: torch.Tensor) -> tuple[torch.Tensor, list[dist.Work]]:
        """Send ``tensor`` to the next rank and receive one from the previous rank.

        Returns the received tensor, which is valid once every returned work has been waited for.
        """
        received = torch.empty_like(tensor)
        after, before = (self.index + 1) % self.size, (self.index - 1) % self.size
        works = dist.batch_isend_irecv(
            [
                dist.P2POp(dist.isend, tensor, group=self.group, group_peer=after),
                dist.P2POp(dist.irecv, received, group=self.group, group_peer=before),
            ]
        )
        self.traffic.bytes_sent += tensor.nbytes
        return received, works


@dataclass(frozen=True)
class Mesh:
    """The coordinates of this rank. ``sequence`` is ``ulysses`` and ``ring`` as one axis: the
    shards of a sequence in order.
    """

    ulysses: Axis = Axis()
    ring: Axis = Axis()
    sequence: Axis = Axis()
    branches: Axis = Axis()

    @classmethod
    def create(cls, layout: Layout) -> Mesh:
        """Create the mesh in the default process group, whose size is ``layout.ranks``; every rank
        must call it.

        Ulysses uses all-to-all and is therefore the most sensitive to bandwidth, so its ranks are
        neighbours.
        """
        ranks = torch.arange(layout.ranks).view(layout.branches, layout.ring, layout.ulysses)
        traffic = Traffic()
        return cls(
            ulysses=_axis(ranks.flatten(0, 1), traffic),
            ring=_axis(ranks.transpose(1, 2).flatten(0, 1), traffic),
            sequence=_axis(ranks.flatten(1), traffic),
            branches=_axis(ranks.flatten(1).T, traffic),
        )

    @property
    def traffic(self) -> Traffic:
        return self.sequence.traffic


def _axis(rows: torch.Tensor, traffic: Traffic) -> Axis:
    """Return the axis of this rank among ``rows`` of global ranks.

    All ranks create the groups in the same order.
    """
    size = rows.shape[1]
    if size == 1:
        return Axis(traffic=traffic)
    own = dist.get_rank()
    axis = Axis(traffic=traffic)
    for row in rows.tolist():
        group = dist.new_group(row)
        if own in row:
            assert isinstance(group, dist.ProcessGroup)
            axis = Axis(size, row.index(own), group, traffic)
    return axis
