"""Which sizes and values a graph is tried on, and what that may cost."""

from __future__ import annotations

import math

import torch
from torch import nn

from export.graph import Graph, Port, Range, Size
from export.parity.cases import BUDGET_CELLS, Case, cases, inputs


class Convolution(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def image(channels: int, **ranges: Range) -> Graph:
    port = Port("x", torch.float32, (1, 3, Size("height"), Size("width")))
    return Graph("model", Convolution(channels), (port,), ("y",), ranges)


TEXT = (
    Port("INPUT_IDS", torch.int64, (Size("batch"), Size("length")), below=50),
    Port("ATTENTION_MASK", torch.int64, (Size("batch"), Size("length"))),
)


def values(fill: str, ports: tuple[Port, ...] = TEXT) -> dict[str, torch.Tensor]:
    case = Case("odd", {"batch": 3, "length": 40, "height": 5, "width": 7}, fill)
    return inputs(ports, case, torch.Generator().manual_seed(0))


def test_sizes_reach_from_min_to_max() -> None:
    found = cases(image(4, height=Range(1, 20, 50), width=Range(1, 30, 60)))

    sizes = {case.which: tuple(case.sizes.values()) for case in found if case.fill == "random"}
    assert sizes["min"] == (1, 1)
    assert sizes["opt"] == (20, 30)
    assert sizes["max"] == (50, 60)
    height, width = sizes["odd"]
    assert height % 2 == width % 2 == 1
    assert height != width


def test_a_costly_graph_gets_smaller_sizes() -> None:
    found = cases(image(200_000, height=Range(2, 90, 160), width=Range(2, 160, 160)))

    largest = max(math.prod(case.sizes.values()) for case in found)
    assert BUDGET_CELLS / 4 < largest <= BUDGET_CELLS
    assert {case.which for case in found} >= {"min", "odd"}


def test_a_graph_without_ranges_has_one_size() -> None:
    port = Port("x", torch.float32, (1, 3, 5, 6))
    found = cases(Graph("model", Convolution(4), (port,), ("y",), {}))

    assert [(case.which, dict(case.sizes)) for case in found if case.fill == "random"] == [
        ("min", {})
    ]


def test_texts_are_random_repeated_and_all_padding() -> None:
    random, padding, last = values("random"), values("padding"), values("last token")
    assert random["INPUT_IDS"].dtype == torch.int64
    assert 30 < len(random["INPUT_IDS"].unique()) <= 50
    lengths = random["ATTENTION_MASK"].sum(1)
    assert lengths[0] == 40, "one text is as long as it can be"
    assert len(lengths.unique()) > 1
    assert all(
        (row[:length] == 1).all()
        for row, length in zip(random["ATTENTION_MASK"], lengths, strict=True)
    )
    assert not padding["INPUT_IDS"].any()
    assert not padding["ATTENTION_MASK"].any()
    assert (last["INPUT_IDS"] == 49).all()


def test_images_are_random_flat_and_far_too_large() -> None:
    ports = (Port("x", torch.float32, (1, 3, Size("height"), Size("width"))),)

    assert not values("zeros", ports)["x"].any()
    assert set(values("extreme", ports)["x"].unique().tolist()) == {-20.0, 20.0}
    assert values("large", ports)["x"].std() > 15
    assert 0.8 < values("random", ports)["x"].std() < 1.2
