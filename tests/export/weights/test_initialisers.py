"""Where the values of a graph's initialisers go, and that they are the same wherever that is."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from onnx_ir.tensor_adapters import from_torch_dtype
from safetensors.torch import save_file

from export.weights import initialisers, place, stored_tensors
from export.weights.initialisers import fill
from pipeline.errors import OutputError

TENSORS = {"one": torch.arange(6.0).reshape(2, 3), "two": torch.randn(5).to(torch.bfloat16)}


@pytest.fixture
def stored(tmp_path: Path) -> dict:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file(TENSORS, folder / "model.safetensors")
    return stored_tensors(folder)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "staged").mkdir()
    return tmp_path / "staged"


def value(name: str, dtype: torch.dtype) -> ir.Value:
    kind = ir.TensorType(from_torch_dtype(dtype))
    return ir.Value(name=name, type=kind, shape=ir.Shape(TENSORS[name].shape))


def read(value: ir.Value, folder: Path, dtype: torch.dtype) -> torch.Tensor:
    tensor = value.const_value
    assert tensor is not None
    if isinstance(tensor, ir.ExternalTensor):
        assert tensor.offset is not None
        raw = (folder / tensor.location).read_bytes()[tensor.offset :][: tensor.length]
        return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(tuple(tensor.shape.numpy()))
    return torch.from_dlpack(tensor.raw)


@pytest.mark.parametrize(
    ("inline", "shares", "dtype", "beside"),
    [
        (1 << 20, True, torch.float32, []),
        (0, True, torch.float32, ["g.onnx.data", "model.safetensors"]),
        (0, True, torch.float16, ["g.onnx.data"]),
        (0, False, torch.float32, ["g.onnx.data"]),
    ],
    ids=[
        "inline",
        "one is shared, one converted",
        "both converted",
        "a file system that shares nothing",
    ],
)
@pytest.mark.parametrize("from_files", [True, False], ids=["from files", "from memory"])
def test_values_arrive_in_the_graph(
    stored: dict,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    inline: int,
    shares: bool,
    dtype: torch.dtype,
    beside: list[str],
    from_files: bool,
) -> None:
    monkeypatch.setattr(initialisers, "INLINE_BYTES", inline)
    if not shares:
        monkeypatch.setattr(initialisers, "share", lambda source, target: False)
    values = {name: value(name, dtype) for name in TENSORS}

    fill(
        {values[name]: (stored if from_files else TENSORS)[name] for name in TENSORS},
        output / "g.onnx",
    )

    for name, tensor in TENSORS.items():
        assert torch.equal(read(values[name], output, dtype), tensor.to(dtype))
    expected = beside if from_files else [name for name in beside if name.endswith(".data")]
    assert sorted(file.name for file in output.iterdir()) == expected


def test_no_data_file_is_written_when_all_is_shared(
    stored: dict, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initialisers, "INLINE_BYTES", 0)
    fill(
        {value(name, tensor.dtype): stored[name] for name, tensor in TENSORS.items()},
        output / "g.onnx",
    )
    assert [file.name for file in output.iterdir()] == ["model.safetensors"]


def test_a_full_disk_is_an_output_error(
    stored: dict, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initialisers, "INLINE_BYTES", 0)
    (output / "g.onnx.data").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"has no space for the weights of g\.onnx"):
        fill({value("one", torch.float16): stored["one"]}, output / "g.onnx")


class TestShare:
    def test_shared_files_have_the_same_bytes(self, tmp_path: Path) -> None:
        blob, snapshot, copy = tmp_path / "blob", tmp_path / "snapshot", tmp_path / "copy"
        blob.write_text("weights")
        snapshot.symlink_to("blob")  # as in a hub's cache
        assert place.share(snapshot, copy)
        assert not copy.is_symlink()
        assert copy.read_text() == "weights"

    def test_files_are_not_shared_across_file_systems(self, tmp_path: Path) -> None:
        other = Path("/dev/shm")
        if other.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is no file system of its own here")
        target = other / tmp_path.name
        (tmp_path / "weights").write_text("weights")
        assert not place.share(tmp_path / "weights", target)
        assert not target.exists()
