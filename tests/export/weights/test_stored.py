"""The tensors of a component folder's files, and the errors for malformed files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from export.weights import bytes_needed, stored_tensors
from pipeline.errors import CheckpointError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(5).to(torch.bfloat16)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A component in two shards."""
    save_file({"a": TENSORS["a"]}, tmp_path / "one.safetensors")
    save_file({"b": TENSORS["b"]}, tmp_path / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_tensors_of_all_shards(folder: Path) -> None:
    stored = stored_tensors(folder)
    assert {name: (t.file.name, t.dtype, t.shape) for name, t in stored.items()} == {
        "a": ("one.safetensors", "F32", (2, 3)),
        "b": ("two.safetensors", "BF16", (5,)),
    }
    for name, tensor in stored.items():
        assert torch.equal(tensor.mapped(), TENSORS[name])
        raw = tensor.file.read_bytes()[tensor.offset : tensor.offset + tensor.nbytes]
        assert b"".join(tensor.chunks(tensor.torch_dtype)) == raw


@pytest.mark.parametrize("chunk", [4, 1 << 20])
def test_conversion_in_chunks_equals_conversion_at_once(
    folder: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.weights.stored._CHUNK_BYTES", chunk)
    converted = bytearray(b"".join(stored_tensors(folder)["b"].chunks(torch.float32)))
    assert torch.equal(torch.frombuffer(converted, dtype=torch.float32), TENSORS["b"].float())


def test_the_file_name_of_diffusers_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_diffusers_version": "0.42"}')
    save_file(TENSORS, tmp_path / "diffusion_pytorch_model.safetensors")
    assert set(stored_tensors(tmp_path)) == {"a", "b"}


def truncated(folder: Path) -> None:
    file = folder / "two.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def mislabelled(folder: Path) -> None:
    file = folder / "two.safetensors"
    file.write_bytes(file.read_bytes().replace(b"[5]", b"[6]"))


def strange(folder: Path) -> None:
    save_file({"b": torch.zeros(4, dtype=torch.float8_e4m3fn)}, folder / "two.safetensors")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "two.safetensors").unlink(), r"two\.safetensors is missing"),
        (
            truncated,
            r"two\.safetensors is cut short or damaged: \d+ bytes, its header speaks of \d+",
        ),
        (
            mislabelled,
            r"two\.safetensors has a broken safetensors header: "
            r"b has 10 bytes, which is not BF16 \[6\]",
        ),
        (strange, r"two\.safetensors: b is of type F8_E4M3; take weights in bf16, fp16 or fp32"),
    ],
)
def test_a_malformed_file_is_named(folder: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=said):
        stored_tensors(folder)


def test_a_file_that_is_cut_while_it_is_read(folder: Path) -> None:
    tensor = stored_tensors(folder)["a"]
    tensor.file.write_bytes(tensor.file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"one\.safetensors ended while a was read"):
        list(tensor.chunks(torch.float32))


def test_the_estimated_disk_space_is_enough(folder: Path) -> None:
    assert bytes_needed(folder, "fp32") == (6 + 5) * 4
    assert bytes_needed(folder, "bf16", graphs=2) == 2 * (6 + 5) * 2
