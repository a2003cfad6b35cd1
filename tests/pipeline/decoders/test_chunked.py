"""The chunk loop runs toy graphs whose frames show which latent frames and caches they use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.decoders.chunked import ChunkedEngine
from pipeline.errors import CheckpointError
from pipeline.sessions.graph import OnnxSession

CHANNELS, FRAMES = 3, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two graphs: `first` outputs its latent frame, `next` the running sum.
    There are two caches; one of them counts the chunks.
    """
    path = tmp_path_factory.mktemp("decoder")
    save(
        path / "first.onnx",
        [
            helper.make_node("Identity", ["latents"], ["new_cache_0"]),
            helper.make_node("Identity", ["one"], ["new_cache_1"]),
            helper.make_node("Einsum", ["latents"], ["frames"], equation="bcthw->thwc"),
        ],
        caches=False,
    )
    save(
        path / "next.onnx",
        [
            helper.make_node("Add", ["latents", "cache_0"], ["new_cache_0"]),
            helper.make_node("Add", ["cache_1", "one"], ["new_cache_1"]),
            helper.make_node("Einsum", ["new_cache_0"], ["sum"], equation="bcthw->thwc"),
            helper.make_node("Mul", ["sum", "new_cache_1"], ["weighted"]),
            helper.make_node("Concat", ["sum", "weighted"], ["frames"], axis=0),
        ],
        caches=True,
    )
    return path


def save(path: Path, nodes: list[onnx.NodeProto], *, caches: bool) -> None:
    def tensor(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    latent = (1, CHANNELS, 1, "h", "w")
    inputs = [tensor("latents", *latent)]
    if caches:
        inputs += [tensor("cache_0", *latent), tensor("cache_1", 1)]
    frames = tensor("frames", FRAMES if caches else 1, "h", "w", CHANNELS)
    outputs = [frames, tensor("new_cache_0", *latent), tensor("new_cache_1", 1)]
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    graph = helper.make_graph(nodes, "toy", inputs, outputs, [one])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path
    )


def test_caches_are_passed_from_chunk_to_chunk(folder: Path) -> None:
    latents = np.random.default_rng(0).random((1, CHANNELS, 4, 2, 5), np.float32)
    totals = np.cumsum(latents[0].transpose(1, 2, 3, 0), axis=0)

    first, *others = ChunkedEngine.open(folder, threads=1).frames(latents)

    np.testing.assert_allclose(first, totals[:1], rtol=1e-6)
    assert len(others) == 3
    for index, frames in enumerate(others, start=1):
        np.testing.assert_allclose(frames, [totals[index], totals[index] * (index + 1)], rtol=1e-6)


def test_concurrent_clips_do_not_share_caches(folder: Path) -> None:
    engine = ChunkedEngine.open(folder, threads=1)
    clips = [np.full((1, CHANNELS, 3, 1, 2), value, np.float32) for value in (1, 10)]

    pairs = list(zip(*(engine.frames(clip) for clip in clips), strict=True))

    assert [(float(a.flat[0]), float(b.flat[0])) for a, b in pairs] == [(1, 10), (2, 20), (3, 30)]


def test_frames_stay_valid_after_later_chunks(folder: Path) -> None:
    latents = np.ones((1, CHANNELS, 3, 1, 1), np.float32)

    chunks = list(ChunkedEngine.open(folder, threads=1).frames(latents))

    assert [chunk.max() for chunk in chunks] == [1, 4, 9]


def test_channels_and_frames_per_latent_come_from_the_graphs(folder: Path) -> None:
    engine = ChunkedEngine.open(folder, threads=0)

    assert (engine.channels, engine.frames_per_latent) == (CHANNELS, FRAMES)


def test_the_error_names_a_missing_graph(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"first\.onnx is missing"):
        ChunkedEngine.open(tmp_path, threads=1)


def test_a_plan_is_preferred_to_a_graph(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "next.plan").write_bytes(b"an engine without the record beside it")
    with pytest.raises(CheckpointError, match="next"):
        ChunkedEngine.open(tmp_path, threads=1)


def test_a_session_may_return_its_own_array_type(folder: Path) -> None:
    """The arrays stay in their own type between runs, as those of an engine on a GPU do."""

    class Kept:
        def __init__(self, array: np.ndarray) -> None:
            self._array = array

        def numpy(self) -> np.ndarray:
            return self._array

    class OtherSession:
        def __init__(self, name: str) -> None:
            self._inner = OnnxSession(folder / name, 1)
            self.inputs, self.outputs = self._inner.inputs, self._inner.outputs

        def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Kept]:
            plain = {
                name: feed.numpy() if isinstance(feed, Kept) else feed
                for name, feed in feeds.items()
            }
            return [Kept(value.numpy()) for value in self._inner.run(outputs, plain)]

    latents = np.random.default_rng(0).random((1, CHANNELS, 3, 2, 5), np.float32)
    names = ["cache_0", "cache_1"]
    engine = ChunkedEngine(
        OtherSession("first.onnx"), OtherSession("next.onnx"), names, CHANNELS, FRAMES
    )

    for ours, expected in zip(
        engine.frames(latents), ChunkedEngine.open(folder, 1).frames(latents), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)
