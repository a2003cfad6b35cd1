"""Our chunk-by-chunk loop over diffusers' decoder matches its own whole and tiled decode."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.decoders import Decoder, Tiling
from pipeline.decoders.torch_wan import TorchEngine
from pipeline.errors import CheckpointError
from tests import vaes
from tests.hostile_checkpoints import keep_tensors

SIDES = ("min_height", "min_width", "stride_height", "stride_width")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: vaes.build(name, tmp_path_factory.mktemp(name)) for name in vaes.VAES}


def noise(engine: TorchEngine, *size: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((1, engine.channels, *size), np.float32)


@pytest.mark.parametrize("name", vaes.VAES)
@pytest.mark.parametrize("size", [(1, 3, 2), (3, 2, 5)])
def test_chunked_decode_equals_whole_decode(
    folders: dict[str, Path], name: str, size: tuple[int, int, int]
) -> None:
    engine = TorchEngine(folders[name], torch.float32, 1)
    latents = noise(engine, *size)

    chunks = list(Decoder(engine).decode(latents))

    assert [len(chunk) for chunk in chunks] == [1, *[engine.frames_per_latent] * (size[0] - 1)]
    np.testing.assert_allclose(
        np.concatenate(chunks), vaes.reference(folders[name], latents), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", vaes.VAES)
@pytest.mark.parametrize("sizes", [(4, 6, 3, 4), (4, 4, 1, 2)])
def test_tiled_decode_equals_diffusers_tiled_decode(
    folders: dict[str, Path], name: str, sizes: tuple[int, ...]
) -> None:
    cell, patch = vaes.CELLS[name]
    pixels = [size * cell for size in sizes]
    engine = TorchEngine(folders[name], torch.float32, 1)
    latents = noise(engine, 2, 9, 7)
    asked = {f"tile_sample_{side}": size for side, size in zip(SIDES, pixels, strict=True)}

    frames = np.concatenate(list(Decoder(engine, Tiling(*pixels, cell, patch)).decode(latents)))

    np.testing.assert_allclose(
        frames, vaes.reference(folders[name], latents, **asked), rtol=0, atol=1e-4
    )
    assert np.abs(frames - vaes.reference(folders[name], latents)).max() > 1e-3, (
        "tiles make a difference"
    )


def test_bf16_is_within_0_07_of_fp32(folders: dict[str, Path]) -> None:
    engine = TorchEngine(folders["wan21"], torch.bfloat16, 1)
    latents = noise(engine, 3, 4, 4)

    frames = np.concatenate(list(Decoder(engine).decode(latents)))

    error = np.abs(frames - vaes.reference(folders["wan21"], latents)).max()
    assert 1e-5 < error < 0.07  # measured: 0.036


def test_concurrent_clips_do_not_share_caches(folders: dict[str, Path]) -> None:
    engine = TorchEngine(folders["wan21"], torch.float32, 1)
    clips = [noise(engine, 2, 2, 2), -noise(engine, 2, 2, 2)]

    turns = list(zip(*map(engine.frames, clips), strict=True))

    for clip, chunks in zip(clips, zip(*turns, strict=True), strict=True):
        for chunk, alone in itertools.zip_longest(chunks, engine.frames(clip)):
            np.testing.assert_array_equal(chunk, alone)


def test_the_error_names_a_folder_without_a_vae(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{tmp_path.name} cannot be loaded"):
        TorchEngine(tmp_path, torch.float32, 1)


def test_missing_weights_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(next(iter(folders.values())), tmp_path / "vae"))
    file = folder / "diffusion_pytorch_model.safetensors"
    keep_tensors(file, lambda name: name != "decoder.conv_in.bias")
    with pytest.raises(CheckpointError, match=r"vae: no file holds decoder\.conv_in\.bias$"):
        TorchEngine(folder, torch.float32, 1)


def test_a_pickle_is_never_loaded(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(next(iter(folders.values())), tmp_path / "vae"))
    file = folder / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        TorchEngine(folder, torch.float32, 1)
