"""The two exported graphs, run chunk by chunk, against the decode of the whole clip in
diffusers.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from export.records import COMPONENT_FILE
from pipeline.decoders import Decoder, Tiling
from pipeline.decoders.chunked import ChunkedEngine
from pipeline.families.parts import VAE_DECODER
from tests.export.exporting import export_all, findings
from tests.needs import exhaustive
from tests.vaes import CELLS, reference

TOLERANCE = 1e-5

# Latent frames, height and width: none is the size that was traced.
SIZES = [(1, 4, 3), (2, 3, 5), (5, 5, 4), (3, 1, 1), (3, 1, 6)]


@pytest.fixture(scope="session")
def exported(vae_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_all(VAE_DECODER, "AutoencoderKLWan", vae_folder, folder)
    return folder


def noise(decoder: Decoder | ChunkedEngine, *size: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((1, decoder.channels, *size), np.float32)


@pytest.mark.parametrize("vae_folder", ["wan21", exhaustive("patched"), "residual"], indirect=True)
class TestExportedDecoder:
    @pytest.mark.parametrize("size", SIZES)
    def test_equals_whole_clip_decode(
        self, vae_folder: Path, exported: Path, size: tuple[int, int, int]
    ) -> None:
        decoder = Decoder(ChunkedEngine.open(exported, threads=1))
        latents = noise(decoder, *size)
        expected = reference(vae_folder, latents)
        assert expected.std() > 0.05, "a flat image would hide mistakes"

        chunks = list(decoder.decode(latents))

        assert [len(chunk) for chunk in chunks] == [1, *[decoder.frames_per_latent] * (size[0] - 1)]
        np.testing.assert_allclose(np.concatenate(chunks), expected, rtol=0, atol=TOLERANCE)

    def test_both_graphs_compile(self, vae_folder: Path, exported: Path) -> None:
        assert findings(exported) == {"first": (), "next": ()}

    def test_tiles_equal_diffusers(
        self, request: pytest.FixtureRequest, vae_folder: Path, exported: Path
    ) -> None:
        engine = ChunkedEngine.open(exported, 1)
        cell, patch = CELLS[request.node.callspec.params["vae_folder"]]
        tiling = Tiling(4 * cell, 6 * cell, 3 * cell, 4 * cell, cell, patch)
        latents = noise(engine, 3, 9, 7)
        sizes = {
            "tile_sample_min_height": 4 * cell,
            "tile_sample_min_width": 6 * cell,
            "tile_sample_stride_height": 3 * cell,
            "tile_sample_stride_width": 4 * cell,
        }

        frames = np.concatenate(list(Decoder(engine, tiling).decode(latents)))

        np.testing.assert_allclose(
            frames, reference(vae_folder, latents, **sizes), rtol=0, atol=1e-4
        )
        assert np.abs(frames - reference(vae_folder, latents)).max() > 1e-3, (
            "tiles make a difference"
        )

    def test_graphs_have_the_promised_tensors(self, vae_folder: Path, exported: Path) -> None:
        first, following = (
            onnx.load(exported / name).graph for name in ("first.onnx", "next.onnx")
        )
        names = [value.name for value in following.output]
        caches = following.input[1:]

        assert [value.name for value in first.input] == ["latents"]
        assert [value.name for value in first.output] == names
        assert names == ["frames", *(f"new_cache_{i}" for i in range(len(caches)))]
        assert [value.name for value in following.input] == [
            "latents",
            *(f"cache_{i}" for i in range(len(caches))),
        ]
        for new, old in itertools.chain(
            zip(first.output[1:], caches, strict=True),
            zip(following.output[1:], caches, strict=True),
        ):
            assert new.type == old.type
            assert old.type.tensor_type.shape.dim[2].dim_value == 2

    def test_one_cache_for_each_convolution_over_time(
        self, vae_folder: Path, exported: Path
    ) -> None:
        vae = AutoencoderKLWan.from_pretrained(vae_folder)
        over_time = [
            m
            for m in vae.decoder.modules()
            if isinstance(m, torch.nn.Conv3d) and m.kernel_size[0] > 1
        ]

        assert len(onnx.load(exported / "next.onnx").graph.input) - 1 == len(over_time)

    def test_the_folder_has_only_two_graphs_and_their_record(self, exported: Path) -> None:
        assert sorted(file.name for file in exported.iterdir()) == [
            COMPONENT_FILE,
            "first.onnx",
            "next.onnx",
        ]
