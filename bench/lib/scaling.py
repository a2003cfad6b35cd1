"""What a denoising step costs on many ranks, worked out: arithmetic, bytes sent, and seconds on
a named machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.parallel.layout import GUIDANCE_BRANCHES, Layout

PLAN_HEADER = (
    "model",
    "GPUs",
    "Ulysses x Ring",
    "branches",
    "sent",
    "s per step",
    "times as fast",
    "waits",
)


@dataclass(frozen=True)
class Shape:
    """What of a Wan transformer and a video decides work and traffic: counts, and ``item`` bytes
    for each value.
    """

    name: str
    tokens: int
    layers: int
    heads: int
    head_width: int
    ffn: int
    text: int = 512
    out: int = 64
    item: int = 2

    @property
    def width(self) -> int:
        return self.heads * self.head_width

    def rows(self, layout: Layout) -> int:
        """Tokens of one rank's shard, the padding at the end included."""
        return -(-self.tokens // layout.sequence_ranks)

    def shard(self, layout: Layout) -> int:
        """Values of one rank's queries, keys or values, with the heads that Ulysses adds."""
        return (
            self.rows(layout) * -(-self.heads // layout.ulysses) * layout.ulysses * self.head_width
        )


@dataclass(frozen=True)
class Machine:
    """Published figures of one GPU, in FLOP/s and bytes/s each way, and which share of them is
    assumed to be had.
    """

    flops: float
    inside: float
    between: float
    per_node: int = 8
    compute_share: float = 0.45
    link_share: float = 0.8

    def exchange(self, nbytes: float, size: int) -> float:
        """Seconds until each of ``size`` neighbouring ranks has sent ``nbytes`` to each other
        one.
        """
        near, far = min(size, self.per_node) - 1, max(0, size - self.per_node)
        return max(near * nbytes / self.inside, far * nbytes / self.between) / self.link_share

    def shift(self, nbytes: float, span: int) -> float:
        """Seconds to send ``nbytes`` to one rank, among ``span`` neighbouring ones: the slowest
        link decides.
        """
        return nbytes / (self.between if span > self.per_node else self.inside) / self.link_share


@dataclass(frozen=True)
class Sent:
    """Bytes that one rank sends in one forward pass of one sample."""

    ulysses: int
    ring: int
    gather: int

    @property
    def total(self) -> int:
        return self.ulysses + self.ring + self.gather


@dataclass(frozen=True)
class Step:
    """Seconds of one guided denoising step, and the bytes a rank sends in it."""

    compute: float
    waiting: float
    sent: int

    @property
    def seconds(self) -> float:
        return self.compute + self.waiting


# NVIDIA's data sheet: bf16 without sparsity; NVLink 900 GB/s, both ways together. InfiniBand NDR:
# 400 Gb/s a GPU.
H100 = Machine(flops=989e12, inside=450e9, between=50e9)
WAN_14B = Shape("Wan 2.1 14B, 1280x720x81", 75_600, layers=40, heads=40, head_width=128, ffn=13_824)
WAN_1B = Shape("Wan 2.1 1.3B, 832x480x81", 32_760, layers=30, heads=12, head_width=128, ffn=8_960)
LAYOUTS = (
    Layout(), Layout(2), Layout(1, 2), Layout(1, 1, 2), Layout(4), Layout(2, 1, 2), Layout(8),
    Layout(4, 2),
    Layout(4, 1, 2), Layout(16), Layout(8, 2), Layout(4, 4), Layout(8, 1, 2), Layout(4, 2, 2),
)  # fmt: skip


def sent_bytes(shape: Shape, layout: Layout) -> Sent:
    """Ulysses trades queries, keys, values and the result; Ring passes keys and values on; the
    end is gathered.
    """
    shard = shape.shard(layout) * shape.item
    return Sent(
        ulysses=shape.layers * 4 * shard // layout.ulysses * (layout.ulysses - 1),
        ring=shape.layers * 2 * shard * (layout.ring - 1),
        gather=shape.rows(layout) * shape.out * shape.item * (layout.sequence_ranks - 1),
    )


def layer_flops(shape: Shape, layout: Layout) -> tuple[float, float]:
    """Of one rank in one block: self-attention's products of tokens with tokens, and everything
    else.

    Keys and values of the text are computed on every rank.
    """
    attention = 4.0 * shape.shard(layout) * shape.tokens
    linear = shape.rows(layout) * (12.0 * shape.width**2 + 4.0 * shape.width * shape.ffn)
    text = 4.0 * shape.text * shape.width * (shape.rows(layout) + shape.width)
    return attention, linear + text


def step(shape: Shape, layout: Layout, machine: Machine) -> Step:
    """Both branches of guidance, in turns or side by side. Ring travels behind attention, the
    rest is waited for.
    """
    rate = machine.flops * machine.compute_share
    attention, rest = (flops / rate for flops in layer_flops(shape, layout))
    shard = shape.shard(layout) * shape.item
    trade = 4 * machine.exchange(shard / layout.ulysses, layout.ulysses)
    late = max(0.0, machine.shift(2 * shard, layout.sequence_ranks) - attention / layout.ring)
    gather = machine.exchange(shape.rows(layout) * shape.out * shape.item, layout.sequence_ranks)
    passes, velocity = GUIDANCE_BRANCHES // layout.branches, shape.tokens * shape.out * shape.item
    guidance = machine.shift(velocity, layout.ranks) if layout.branches > 1 else 0.0
    return Step(
        compute=passes * shape.layers * (attention + rest),
        waiting=passes * (shape.layers * (trade + late * (layout.ring - 1)) + gather) + guidance,
        sent=passes * sent_bytes(shape, layout).total + velocity * (layout.branches - 1),
    )


def plan(
    shapes: Sequence[Shape] = (WAN_14B, WAN_1B), machine: Machine = H100
) -> Iterator[list[str]]:
    """Rows of the table in docs/scaling.md."""
    for shape in shapes:
        alone = step(shape, Layout(), machine).seconds
        for layout in LAYOUTS:
            found = step(shape, layout, machine)
            yield [
                shape.name, str(layout.ranks), f"{layout.ulysses} x {layout.ring}",
                str(layout.branches),
                f"{found.sent / 2**30:.2f} GiB", f"{found.seconds:.2f}",
                f"{alone / found.seconds:.2f}",
                f"{found.waiting / found.seconds:.1%}",
            ]  # fmt: skip
