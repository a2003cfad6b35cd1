"""Pickled weights become safetensors once, and a pickle that would run code is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from export.pickles import convert, without_pickles
from pipeline.checkpoint.hub import Origin
from pipeline.errors import CheckpointError
from tests.conftest import SHAPES

pytestmark = pytest.mark.slow


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
    index = {
        "metadata": {},
        "weight_map": {key: name for name, shard in shards.items() for key in shard},
    }
    encoder.with_name("pytorch_model.bin.index.json").write_text(json.dumps(index))
    encoder.unlink()
    return folder


def test_converted_weights_are_equal(checkpoint: Path, tmp_path: Path) -> None:
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


def test_a_checkpoint_without_pickles_is_used_itself(tmp_path: Path) -> None:
    assert without_pickles(Origin(SHAPES), tmp_path) == Origin(SHAPES)


class Touch:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("damaged", [False, True])
def test_code_in_a_pickle_does_not_run(checkpoint: Path, tmp_path: Path, damaged: bool) -> None:
    file = checkpoint / "vae/diffusion_pytorch_model.bin"
    file.write_bytes(
        file.read_bytes()[:1000] if damaged else pickle.dumps({"weight": Touch(tmp_path / "ran")})
    )
    with pytest.raises(
        CheckpointError, match=r"diffusion_pytorch_model\.bin is damaged or holds more than weights"
    ):
        without_pickles(Origin(checkpoint), tmp_path / "cache")
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "cache/converted").glob(".*"))


def repeated(file: Path) -> None:
    """A terabyte of views of one number."""
    torch.save({"weight": torch.zeros(1).expand(1 << 19, 1 << 19)}, file)


def shared(file: Path) -> None:
    """A thousand names of the same megabyte."""
    weight = torch.zeros(1 << 18)
    torch.save({f"weight.{index}": weight for index in range(1000)}, file)


def compressed(file: Path) -> None:
    """A gigabyte of zeros in a megabyte."""
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a/data.pkl", "w") as record,
    ):
        for _ in range(1 << 10):
            record.write(bytes(1 << 20))


def overlapping(file: Path) -> None:
    """Sizes of records in the directory of the archive that are larger than the file."""
    torch.save({"weight": torch.zeros(4)}, file)
    data = bytearray(file.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = (1 << 30).to_bytes(4, "little") * 2
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (repeated, "'weight' repeats what is stored"),
        (shared, r"would grow to 1048576000 bytes"),
        (compressed, "is compressed, as torch.save.. never writes it"),
        (overlapping, "claims more bytes than it has"),
        (
            lambda file: torch.save([torch.zeros(4)], file),
            "should map names to tensors; it holds list",
        ),
        (
            lambda file: torch.save({"state_dict": {"weight": torch.zeros(4)}}, file),
            "it holds dict 'state_dict'",
        ),
        (
            lambda file: torch.save({}, file, _use_new_zipfile_serialization=False),
            "is damaged or holds more than weights",
        ),
    ],
)
def test_a_pickle_does_not_grow(
    checkpoint: Path, tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    write(checkpoint / "vae/diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match=message):
        convert(checkpoint, tmp_path / "converted")


def test_an_index_of_pickles_names_files_of_its_folder_only(
    checkpoint: Path, tmp_path: Path
) -> None:
    index = checkpoint / "text_encoder/pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../elsewhere.bin"}}))
    with pytest.raises(
        CheckpointError, match=r"should map each weight to a \.bin file in the same folder"
    ):
        convert(checkpoint, tmp_path / "converted")


def test_a_converted_checkpoint_has_only_files_that_are_read(
    checkpoint: Path, tmp_path: Path
) -> None:
    """A link would lead out of it, which a checkpoint's files may not."""
    (checkpoint / "other").mkdir()
    (checkpoint / "other/large.safetensors").write_text("")
    converted = tmp_path / "converted"
    convert(checkpoint, converted)
    assert not (converted / "other").exists()
    assert not [file for file in converted.rglob("*") if file.is_symlink()]
    assert (converted / "transformer/config.json").samefile(checkpoint / "transformer/config.json")
