"""The two exported graphs, run chunk by chunk, against the decode of the whole clip in diffusers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from pipeline.decoding import ChunkedDecoder
from tests.export.exporting import export_all

TOLERANCE = 1e-5

# Latent frames, height and width: none is the size that was traced.
SIZES = [(1, 4, 3), (2, 3, 5), (5, 5, 4), (3, 1, 1), (3, 1, 6)]


@pytest.fixture(scope="session")
def exported(vae_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_all("vae_decoder", "AutoencoderKLWan", vae_folder, folder)
    return folder


def reference(vae_folder: Path, latents: torch.Tensor) -> np.ndarray:
    vae = AutoencoderKLWan.from_pretrained(vae_folder)
    mean, std = (torch.tensor(vae.config[key]).view(1, -1, 1, 1, 1) for key in ("latents_mean", "latents_std"))
    with torch.no_grad():
        (video,) = vae.decode(latents * std + mean, return_dict=False)
    return (video[0].permute(1, 2, 3, 0) / 2 + 0.5).numpy()


@pytest.mark.parametrize("vae_folder", ["wan21", "patched", "residual"], indirect=True)
class TestExportedDecoder:
    @pytest.mark.parametrize("size", SIZES)
    def test_equals_whole_clip_decode(self, vae_folder: Path, exported: Path, size: tuple[int, int, int]) -> None:
        decoder = ChunkedDecoder(exported, threads=1)
        latents = torch.randn(1, decoder.channels, *size, generator=torch.Generator().manual_seed(3))
        expected = reference(vae_folder, latents)
        assert expected.std() > 0.05, "a flat picture would hide mistakes"

        chunks = list(decoder.decode(latents.numpy()))

        assert [len(chunk) for chunk in chunks] == [1, *[decoder.frames_per_latent] * (size[0] - 1)]
        np.testing.assert_allclose(np.concatenate(chunks), expected, rtol=0, atol=TOLERANCE)

    def test_graphs_have_the_promised_tensors(self, vae_folder: Path, exported: Path) -> None:
        first, following = (onnx.load(exported / name).graph for name in ("first.onnx", "next.onnx"))
        names = [value.name for value in following.output]
        caches = following.input[1:]

        assert [value.name for value in first.input] == ["latents"]
        assert [value.name for value in first.output] == names
        assert names == ["frames", *(f"new_cache_{i}" for i in range(len(caches)))]
        assert [value.name for value in following.input] == ["latents", *(f"cache_{i}" for i in range(len(caches)))]
        for new, old in itertools.chain(
            zip(first.output[1:], caches, strict=True), zip(following.output[1:], caches, strict=True)
        ):
            assert new.type == old.type
            assert old.type.tensor_type.shape.dim[2].dim_value == 2

    def test_one_cache_for_each_convolution_over_time(self, vae_folder: Path, exported: Path) -> None:
        vae = AutoencoderKLWan.from_pretrained(vae_folder)
        over_time = [m for m in vae.decoder.modules() if isinstance(m, torch.nn.Conv3d) and m.kernel_size[0] > 1]

        assert len(onnx.load(exported / "next.onnx").graph.input) - 1 == len(over_time)

    def test_leaves_only_the_two_files(self, exported: Path) -> None:
        assert sorted(file.name for file in exported.iterdir()) == ["first.onnx", "next.onnx"]
