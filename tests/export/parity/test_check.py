"""What is compared, and what is said of a graph that is not right."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from export import parity
from export.parity.cases import cases
from export.weights import initialisers
from pipeline.settings import GraphPrecision
from tests.export.parity import small

PRECISIONS: tuple[GraphPrecision, ...] = ("fp32", "bf16", "fp16")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[GraphPrecision, Path]:
    return {
        precision: small.export(tmp_path_factory.mktemp(precision), precision)
        for precision in PRECISIONS
    }


@pytest.fixture
def folder(exported: dict[GraphPrecision, Path], tmp_path: Path) -> Path:
    """The fp32 graphs, to be spoiled."""
    return shutil.copytree(exported["fp32"], tmp_path / "graphs")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_graph_gets_a_result(
    exported: dict[GraphPrecision, Path], precision: GraphPrecision
) -> None:
    figures = parity.check(small.graphs(), exported[precision], precision)

    count = len(cases(small.graphs()[0]))
    assert {name: figure.cases for name, figure in figures.items()} == {
        "first": count,
        "next": count * (parity.CHUNKS - 1),
    }
    for figure in figures.values():
        if precision == "fp32":
            assert (figure.limit_max_abs, figure.limit_cosine) == (1e-4, None)
            assert figure.max_abs < 1e-5
        else:
            assert (figure.limit_max_abs, figure.limit_cosine) == (None, 0.999)
            assert 0.999 < figure.cosine < 1 - 1e-9, "roundings are seen"


def test_a_check_leaves_no_files(exported: dict[GraphPrecision, Path]) -> None:
    parity.check(small.graphs(), exported["bf16"], "bf16")

    assert sorted(file.name for file in exported["bf16"].iterdir()) == ["first.onnx", "next.onnx"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_beside_the_graph_stay_there(
    tmp_path: Path, precision: GraphPrecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initialisers, "INLINE_BYTES", 0)
    files = {file.name for file in small.export(tmp_path, precision).iterdir()}
    assert "next.onnx.data" in files

    figures = parity.check(small.graphs(), tmp_path, precision)

    assert figures["next"].cosine > 0.999
    assert {file.name for file in tmp_path.iterdir()} == files


@pytest.mark.parametrize("layer", ["into", "middle.1", "middle.2", "out"])
@pytest.mark.parametrize("graph", ["first", "next"])
def test_an_error_names_graph_and_layer(folder: Path, graph: str, layer: str) -> None:
    small.spoil(folder / f"{graph}.onnx", f"{layer}.bias", 0.3)

    with pytest.raises(parity.ParityError) as caught:
        parity.check(small.graphs(), folder, "fp32")

    sentence = str(caught.value)
    assert sentence.startswith(f"{graph}.onnx is not what torch computes: ")
    assert f"the first layer that differs is {layer} (off by 0.3" in sentence
    assert "for random, min sizes (rows 1)" in sentence


def test_an_error_names_the_layer_of_a_nan(folder: Path) -> None:
    small.spoil(folder / "next.onnx", "middle.1.bias", float("nan"))

    with pytest.raises(
        parity.ParityError, match=r"y is wrong \(NaN or Inf\) .* that differs is middle\.1 "
    ):
        parity.check(small.graphs(), folder, "fp32")


def test_a_half_precision_that_overflows_is_named(
    exported: dict[GraphPrecision, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(exported["fp16"], tmp_path / "graphs")
    # Finite in the file, and over 65504 times a hostile input.
    small.spoil(folder / "first.onnx", "into.bias", 65000)
    small.spoil(folder / "next.onnx", "into.bias", 65000)

    with pytest.raises(parity.ParityError, match="the first layer that differs is into "):
        parity.check(small.graphs(), folder, "fp16")


def test_an_error_that_grows_with_the_chunks_is_found(folder: Path) -> None:
    """Each chunk is a little off, on its own within the limit: caches are those of the graph,
    not of torch.
    """
    small.spoil(folder / "next.onnx", "middle.2.bias", 0.9e-4)
    small.spoil(folder / "first.onnx", "middle.2.bias", 0.9e-4)

    with pytest.raises(parity.ParityError, match=r"^next\.onnx"):
        parity.check(small.graphs(), folder, "fp32")
