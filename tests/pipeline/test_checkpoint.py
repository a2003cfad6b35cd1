"""A checkpoint folder is looked at before anything is loaded, and what is wrong with it names its file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoint import Checkpoint
from pipeline.errors import CheckpointError
from pipeline.safetensors_header import read_header

SHAPES = Path(__file__).resolve().parents[2] / "models" / "shapes"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHAPES, tmp_path / "copy"))


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def shard(folder: Path, weight_map: Any) -> None:
    (folder / WEIGHTS).rename(folder / "transformer/part-1.safetensors")
    index = folder / "transformer/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))


def truncate(path: Path, keep: int) -> None:
    with path.open("r+b") as file:
        file.truncate(keep)


BROKEN: list[tuple[str, Callable[[Path], object], str]] = [
    ("no index", lambda f: (f / "model_index.json").unlink(), "model_index.json is missing"),
    ("not json", lambda f: (f / "vae/config.json").write_text("{"), "vae/config.json is not JSON"),
    ("a list", lambda f: (f / "vae/config.json").write_text("[]"), "vae/config.json should hold a JSON object"),
    (
        "other class",
        lambda f: edit(f / "model_index.json", vae=["diffusers", "AutoencoderKL"]),
        "vae is 'AutoencoderKL'",
    ),
    ("component not a pair", lambda f: edit(f / "model_index.json", vae=3), "vae is None"),
    (
        "experts without a boundary",
        lambda f: edit(f / "model_index.json", transformer_2=["diffusers", "WanTransformer3DModel"]),
        "pipeline class 'WanPipeline' with transformer_2 is of no known family",
    ),
    ("no weights", lambda f: (f / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    (
        "a pickle",
        lambda f: (f / WEIGHTS).rename(f / "transformer/diffusion_pytorch_model.bin"),
        r"is missing \(diffusion_pytorch_model.bin is a pickle, which is not loaded; export --allow-pickle converts",
    ),
    ("cut in the data", lambda f: truncate(f / WEIGHTS, 100_000), f"{WEIGHTS} is cut short or damaged: 100000 bytes"),
    ("cut in the header", lambda f: truncate(f / WEIGHTS, 10), f"{WEIGHTS} is not a safetensors file"),
    ("empty", lambda f: truncate(f / WEIGHTS, 0), f"{WEIGHTS} is not a safetensors file"),
    (
        "no header",
        lambda f: (f / WEIGHTS).write_bytes((8).to_bytes(8, "little") + b"[1,2,3,]"),
        "broken safetensors header",
    ),
    (
        "missing shard",
        lambda f: shard(f, {"a": "part-1.safetensors", "b": "part-2.safetensors"}),
        "part-2.safetensors is missing",
    ),
    ("shard elsewhere", lambda f: shard(f, {"a": "../part-1.safetensors"}), "in the same folder"),
    ("weight_map a list", lambda f: shard(f, ["part-1.safetensors"]), "in the same folder"),
    (
        "other latents",
        lambda f: edit(f / "vae/config.json", z_dim=4),
        "transformer/config.json: in_channels is 16, but should be 4, the VAE's z_dim",
    ),
    (
        "other text",
        lambda f: edit(f / "text_encoder/config.json", d_model=64),
        "transformer/config.json: text_dim is 128, but should be 64, the text encoder's d_model",
    ),
    (
        "odd patch",
        lambda f: edit(f / "transformer/config.json", patch_size=[2, 2, 2]),
        r"transformer/config.json: patch_size is \[2, 2, 2\], but should be \[1, 2, 2\]",
    ),
    (
        "scale of zero",
        lambda f: edit(f / "vae/config.json", scale_factor_spatial=0),
        "scale_factor_spatial is 0, but should be 8, as dim_mult and patch_size have it",
    ),
    ("unknown default", lambda f: edit(f / "triton_video.json", hight=3), "triton_video.json: hight: Extra inputs"),
    ("default out of range", lambda f: edit(f / "triton_video.json", fps=0), "triton_video.json: fps: Input should be"),
]


@pytest.mark.parametrize(("breakage", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_what_is_broken_is_named(folder: Path, breakage: Callable[[Path], object], message: str) -> None:
    breakage(folder)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(folder)


def test_the_bundled_checkpoint_is_whole() -> None:
    info = Checkpoint.open(SHAPES).info
    assert (info.name, info.family, info.size_multiple) == ("shapes", "wan2.1-t2v", 16)
    assert sum(file.stat().st_size for file in SHAPES.rglob("*.safetensors")) < 16_000_000


def test_shards_that_are_all_there(folder: Path) -> None:
    shard(folder, dict.fromkeys(read_header(folder / WEIGHTS), "part-1.safetensors"))
    Checkpoint.open(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder; a Diffusers checkpoint folder is needed"):
        Checkpoint.open(tmp_path / "nothing")


def test_without_defaults_of_its_own_it_has_its_familys(folder: Path) -> None:
    (folder / "triton_video.json").unlink()
    defaults = Checkpoint.open(folder).info.defaults
    assert (defaults.height, defaults.width, defaults.num_frames, defaults.max_sequence_length) == (480, 832, 81, 512)


@pytest.mark.parametrize("file", [WEIGHTS, "scheduler/scheduler_config.json"])
def test_the_fingerprint_follows_the_files(folder: Path, file: str) -> None:
    before = Checkpoint.open(folder).fingerprint()
    assert Checkpoint.open(folder).fingerprint() == before
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content.replace(b"1000", b"1001") if file.endswith("json") else content)
    assert Checkpoint.open(folder).fingerprint() != before


def test_where_the_second_expert_takes_over(build_family: Callable[[str], Path], tmp_path: Path) -> None:
    experts = Path(shutil.copytree(build_family("wan2.2-t2v"), tmp_path / "experts"))
    assert Checkpoint.open(experts).boundary_timestep == 875.0
    edit(experts / "model_index.json", boundary_ratio=875)
    with pytest.raises(CheckpointError, match=r"boundary_ratio is 875, but should be from 0 to 1"):
        Checkpoint.open(experts)
