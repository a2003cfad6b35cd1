"""Checkpoint folders are validated before anything is loaded, and errors name the broken file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.safetensors_header import read_header
from pipeline.errors import CheckpointError, InputError
from tests.hostile_checkpoints import edit, edit_header

SHAPES = Path(__file__).resolve().parents[3] / "models" / "shapes"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHAPES, tmp_path / "copy"))


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
    (
        "a list",
        lambda f: (f / "vae/config.json").write_text("[]"),
        "vae/config.json should hold a JSON object",
    ),
    (
        "other class",
        lambda f: edit(f / "model_index.json", vae=["diffusers", "AutoencoderKL"]),
        "vae is 'AutoencoderKL'",
    ),
    ("component not a pair", lambda f: edit(f / "model_index.json", vae=3), "vae is None"),
    (
        "experts without a boundary",
        lambda f: edit(
            f / "model_index.json",
            transformer_2=["diffusers", "WanTransformer3DModel"],
            expand_timesteps=False,
        ),
        "pipeline class 'WanPipeline' with transformer_2 is of no known family",
    ),
    ("no weights", lambda f: (f / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    (
        "a pickle",
        lambda f: (f / WEIGHTS).rename(f / "transformer/diffusion_pytorch_model.bin"),
        r"is missing \(diffusion_pytorch_model.bin is a pickle, which is not loaded; export "
        r"--allow-pickle converts",
    ),
    (
        "cut in the data",
        lambda f: truncate(f / WEIGHTS, 100_000),
        f"{WEIGHTS} is cut short or damaged: 100000 bytes",
    ),
    (
        "cut in the header",
        lambda f: truncate(f / WEIGHTS, 10),
        f"{WEIGHTS} is not a safetensors file",
    ),
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
    (
        "latents divided by zero",
        lambda f: edit(f / "vae/config.json", latents_std=[0.0] * 16),
        r"vae/config.json: latents_std should be 16 numbers above 0, one for each latent channel "
        r"\(z_dim\)",
    ),
    (
        "another compression than its levels make",
        lambda f: edit(f / "vae/config.json", scale_factor_temporal=8),
        "scale_factor_temporal is 8, but should be 4, as temperal_downsample has it",
    ),
    (
        "an index and the weights in one file",
        lambda f: shutil.copy(f / "model_index.json", f / f"{WEIGHTS}.index.json"),
        "holds both diffusion_pytorch_model.safetensors and "
        "diffusion_pytorch_model.safetensors.index.json",
    ),
    (
        "a tensor the index does not place",
        lambda f: shard(f, dict.fromkeys(list(read_header(f / WEIGHTS))[1:], "part-1.safetensors")),
        "part-1.safetensors holds .*, which the index does not place there",
    ),
    (
        "shards without an index",
        lambda f: (f / WEIGHTS).rename(
            f / "transformer/diffusion_pytorch_model-00001-of-00001.safetensors"
        ),
        r"is missing \(diffusion_pytorch_model-00001-of-00001.safetensors is a shard, but "
        r".*index.json is missing\)",
    ),
    (
        "a variant",
        lambda f: (f / WEIGHTS).rename(f / "transformer/diffusion_pytorch_model.fp16.safetensors"),
        r"is missing \(diffusion_pytorch_model.fp16.safetensors is a variant; rename it, or load "
        r"it with diffusers",
    ),
    (
        "GGUF",
        lambda f: (f / WEIGHTS).rename(f / "transformer/wan-Q4_K_M.gguf"),
        r"is missing \(wan-Q4_K_M.gguf holds GGUF weights, which are quantised",
    ),
    (
        "another name",
        lambda f: (f / WEIGHTS).rename(f / "transformer/wan.safetensors"),
        r"is missing \(wan.safetensors has another name than diffusion_pytorch_model.safetensors\)",
    ),
    (
        "float8",
        lambda f: edit_header(f / WEIGHTS, dtype="F8_E4M3", shape=[384]),
        "is of type F8_E4M3; take weights in bf16, fp16 or fp32",
    ),
    (
        "no such timestep",
        lambda f: edit(f / "triton_video.json", denoising_timesteps=[0]),
        "triton_video.json: denoising_timesteps.0: Input should be",
    ),
    (
        "a shift of nothing",
        lambda f: edit(f / "scheduler/scheduler_config.json", flow_shift=0),
        "flow_shift is 0; it must be a number above 0, up to 100",
    ),
    (
        "unknown default",
        lambda f: edit(f / "triton_video.json", hight=3),
        "triton_video.json: hight: Extra inputs",
    ),
    (
        "default out of range",
        lambda f: edit(f / "triton_video.json", fps=0),
        "triton_video.json: fps: Input should be",
    ),
]


@pytest.mark.parametrize(
    ("breakage", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_the_error_names_the_broken_file(
    folder: Path, breakage: Callable[[Path], object], message: str
) -> None:
    breakage(folder)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(folder)


def test_the_bundled_checkpoint_opens_and_is_under_16_mb() -> None:
    info = Checkpoint.open(SHAPES).info
    assert (info.name, info.family, info.size_multiple) == ("shapes", "wan2.2-ti2v", 16)
    assert sum(file.stat().st_size for file in SHAPES.rglob("*.safetensors")) < 16_000_000


def test_complete_shards_are_accepted(folder: Path) -> None:
    shard(folder, dict.fromkeys(read_header(folder / WEIGHTS), "part-1.safetensors"))
    Checkpoint.open(folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="is not a folder; a Diffusers checkpoint folder is needed"
    ):
        Checkpoint.open(tmp_path / "nothing")


NOT_A_CHECKPOINT = [
    (
        "lora",
        ["pytorch_lora_weights.safetensors"],
        "it holds a LoRA, which is not a model; pass it as --lora NAME=PATH",
    ),
    (
        "peft",
        ["adapter_config.json", "adapter_model.safetensors"],
        "it holds a LoRA, which is not a model; pass it as --lora NAME=PATH",
    ),
    (
        "gguf",
        ["wan2.1-t2v-14b-Q4_0.gguf", "README.md"],
        "it holds GGUF weights, which are quantised",
    ),
    (
        "original",
        ["Wan2.1_VAE.pth", "config.json", "diffusion_pytorch_model.safetensors"],
        "own layout; convert it",
    ),
    (
        "component",
        ["config.json", "model.safetensors"],
        "it holds one component of a checkpoint; name",
    ),
    (
        "single",
        ["wan_t2v_fp8.safetensors"],
        "it holds weights without a folder around them; load them with",
    ),
    ("nothing", ["README.md"], "model_index.json is missing$"),
]


@pytest.mark.parametrize(
    ("files", "message"),
    [row[1:] for row in NOT_A_CHECKPOINT],
    ids=[r[0] for r in NOT_A_CHECKPOINT],
)
def test_the_error_names_the_kind_of_an_unsupported_folder(
    tmp_path: Path, files: list[str], message: str
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "wan.safetensors",
            "holds weights without a folder around them; load them with diffusers' "
            "from_single_file",
        ),
        ("wan-Q8_0.gguf", "holds GGUF weights"),
        ("wan_lora_r32.safetensors", "is a LoRA, which is not a model"),
        ("notes.txt", "is not a folder; a Diffusers checkpoint folder is needed$"),
    ],
)
def test_the_error_names_the_kind_of_a_single_file(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(tmp_path / name)


def test_a_distilled_model_accepts_a_scheduler_without_flow_sigmas(folder: Path) -> None:
    edit(folder / "model_index.json", _class_name="WanDMDPipeline")
    edit(folder / "scheduler/scheduler_config.json", use_flow_sigmas=False)
    values = json.loads((folder / "triton_video.json").read_text())
    values.pop("num_inference_steps")
    (folder / "triton_video.json").write_text(json.dumps(values))
    assert Checkpoint.open(folder).family.name == "fastwan2.2-ti2v"


def test_links_are_followed_only_within_the_hub_cache(folder: Path, tmp_path: Path) -> None:
    """A snapshot's files are links to blobs in the hub's cache; a link to any other place is
    refused.
    """
    repository = tmp_path / "models--acme--shapes"
    blobs, snapshot = repository / "blobs", repository / "snapshots/1"
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        file.rename(blobs / str(number))
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    assert Checkpoint.open(snapshot).family.name == "wan2.2-ti2v"
    moved = tmp_path / "elsewhere.json"
    config = snapshot / "vae/config.json"
    config.resolve().rename(moved)
    config.unlink()
    config.symlink_to(moved)
    with pytest.raises(
        CheckpointError,
        match=r"config\.json is a link to .*elsewhere\.json, outside the checkpoint",
    ):
        Checkpoint.open(snapshot)


def test_defaults_of_the_family_apply_without_triton_video_json(folder: Path) -> None:
    (folder / "triton_video.json").unlink()
    defaults = Checkpoint.open(folder).info.defaults
    assert (defaults.height, defaults.width, defaults.num_frames, defaults.max_sequence_length) == (
        704,
        1280,
        121,
        512,
    )


def test_boundary_timestep_follows_boundary_ratio(
    build_family: Callable[[str], Path], tmp_path: Path
) -> None:
    experts = Path(shutil.copytree(build_family("wan2.2-t2v"), tmp_path / "experts"))
    assert Checkpoint.open(experts).boundary_timestep == 875.0
    assert Checkpoint.open(experts).info.boundary_ratio == 0.875
    edit(experts / "model_index.json", boundary_ratio=875)
    with pytest.raises(CheckpointError, match=r"boundary_ratio is 875, but should be from 0 to 1"):
        Checkpoint.open(experts)


def test_a_folder_with_more_than_1000_files_is_refused(folder: Path) -> None:
    for number in range(1001):
        (folder / f"vae/{number}.json").touch()
    with pytest.raises(CheckpointError, match="vae holds too many files; at most 1000 are read"):
        Checkpoint.open(folder)


@pytest.mark.parametrize(
    ("family", "encoders", "edits"),
    [
        ("wan2.1-t2v", ["text_encoder", "vae_encoder"], (False, True)),
        ("wan2.2-t2v", ["text_encoder", "vae_encoder"], (False, True)),
        ("wan2.2-ti2v", ["text_encoder", "vae_encoder"], (True, True)),
        ("wan2.1-i2v", ["text_encoder", "image_encoder", "vae_encoder"], (False, False)),
    ],
)
def test_the_vaes_encoder_lets_a_text_to_video_model_edit(
    build_family: Callable[[str], Path], family: str, encoders: list[str], edits: tuple[bool, bool]
) -> None:
    checkpoint = Checkpoint.open(build_family(family))
    loaded = checkpoint.with_vae_encoder()
    assert [part.name for part in loaded.family.parts] == [*encoders, "vae_decoder"]
    assert (checkpoint.info.edits, loaded.info.edits) == edits
    assert loaded.with_vae_encoder() == loaded


def test_a_model_that_could_not_edit_needs_no_encoder(build_family: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="hunyuan-video edits no videos"):
        Checkpoint.open(build_family("hunyuan-video")).with_vae_encoder()
