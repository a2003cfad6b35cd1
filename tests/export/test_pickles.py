"""Pickled weights become safetensors once, and a pickle that would run code is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from export.pickles import without_pickles
from pipeline.errors import CheckpointError
from pipeline.hub import Origin
from tests.conftest import SHAPES


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The bundled one, with its text encoder in two pickles and its VAE in one."""
    folder = tmp_path / "pickled"
    shutil.copytree(SHAPES, folder)
    vae = folder / "vae/diffusion_pytorch_model.safetensors"
    torch.save(load_file(vae), vae.with_suffix(".bin"))
    vae.unlink()
    encoder = folder / "text_encoder/model.safetensors"
    weights = list(load_file(encoder).items())
    shards = {
        "pytorch_model-00001-of-00002.bin": dict(weights[:3]),
        "pytorch_model-00002-of-00002.bin": dict(weights[3:]),
    }
    for name, shard in shards.items():
        torch.save(shard, encoder.with_name(name))
    index = {"metadata": {}, "weight_map": {key: name for name, shard in shards.items() for key in shard}}
    encoder.with_name("pytorch_model.bin.index.json").write_text(json.dumps(index))
    encoder.unlink()
    return folder


def test_the_same_weights_in_safetensors(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a pickle, which is not loaded"):
        Origin(checkpoint).open()
    converted = without_pickles(Origin(checkpoint), tmp_path / "cache")
    assert converted.open().info.name == "pickled"
    vae = converted.path / "vae/diffusion_pytorch_model.safetensors"
    original = load_file(SHAPES / "vae/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, original[name]) for name, value in load_file(vae).items())
    assert not list(converted.path.rglob("*.bin"))
    made = vae.stat().st_mtime_ns
    assert without_pickles(Origin(checkpoint), tmp_path / "cache") == converted
    assert vae.stat().st_mtime_ns == made


def test_without_pickles_it_is_the_folder_itself(tmp_path: Path) -> None:
    assert without_pickles(Origin(SHAPES), tmp_path) == Origin(SHAPES)


class Touch:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("damaged", [False, True])
def test_code_in_a_pickle_does_not_run(checkpoint: Path, tmp_path: Path, damaged: bool) -> None:
    file = checkpoint / "vae/diffusion_pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:1000] if damaged else pickle.dumps({"weight": Touch(tmp_path / "ran")}))
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model\.bin is damaged or holds more than weights"):
        without_pickles(Origin(checkpoint), tmp_path / "cache")
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "cache/converted").glob(".*"))
