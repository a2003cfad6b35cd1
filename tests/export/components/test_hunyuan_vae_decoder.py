"""The exported tile of HunyuanVideo's VAE decoder against the decode in diffusers, of one tile
and of many.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from diffusers import AutoencoderKLHunyuanVideo

from pipeline.decoders import open_decoder
from pipeline.settings import StageSettings
from tests.export.components.conftest import ExportedPart

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def decoder(export_part) -> ExportedPart:
    return export_part("hunyuan-video", "vae_decoder")


def latents(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


# Batch, latent frames, height and width: a single frame, one and several tiles.
@pytest.mark.parametrize("size", [(1, 1, 3, 2), (1, 2, 1, 1), (1, 5, 4, 3), (3, 3, 2, 5)])
def test_a_tile_equals_diffusers(decoder: ExportedPart, size: tuple[int, ...]) -> None:
    batch, *sides = size
    vae = AutoencoderKLHunyuanVideo.from_pretrained(decoder.source)
    vae.use_framewise_decoding = False
    given = latents(batch, 6, *sides)
    with torch.no_grad():
        video = vae.decode(given / vae.config["scaling_factor"]).sample
    expected = (video.permute(0, 2, 3, 4, 1) / 2 + 0.5).numpy()
    assert expected.std() > 0.05, "a flat image would hide mistakes"
    (frames,) = decoder.run("tile", given.numpy())
    np.testing.assert_allclose(frames, expected, rtol=0, atol=TOLERANCE)


class ExportedDecoder(torch.nn.Module):
    """In the place of the decoder in diffusers' VAE, which cuts and blends the tiles."""

    def __init__(self, decoder: ExportedPart, scale: float) -> None:
        super().__init__()
        self.session = ort.InferenceSession(
            str(decoder.folder / "tile.onnx"), providers=["CPUExecutionProvider"]
        )
        self.scale = scale
        self.shapes: set[tuple[int, ...]] = set()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        self.shapes.add(tuple(z.shape))
        frames = np.asarray(self.session.run(None, {"latents": (z * self.scale).numpy()})[0])
        return torch.from_numpy(frames).permute(0, 4, 1, 2, 3) * 2 - 1


def test_a_clip_in_tiles_equals_diffusers(decoder: ExportedPart) -> None:
    """Tiles at the edges of a clip are smaller, in time too."""
    vae = AutoencoderKLHunyuanVideo.from_pretrained(decoder.source)
    vae.enable_tiling(32, 32, 16, 24, 24, 12)
    z = latents(1, 6, 8, 5, 6)
    with torch.no_grad():
        expected = vae.decode(z).sample
        exported = ExportedDecoder(decoder, vae.config["scaling_factor"])
        vae.post_quant_conv, vae.decoder = torch.nn.Identity(), exported
        video = vae.decode(z).sample
    assert len(exported.shapes) > 4
    np.testing.assert_allclose(video, expected, rtol=0, atol=2 * TOLERANCE)


def test_the_decoder_cuts_a_clip_as_diffusers_does(decoder: ExportedPart) -> None:
    """In windows of time, and in tiles as well."""
    sizes = {
        "tile_sample_min_height": 32,
        "tile_sample_min_width": 32,
        "tile_sample_stride_height": 24,
        "tile_sample_stride_width": 24,
    }
    vae = AutoencoderKLHunyuanVideo.from_pretrained(decoder.source)
    z = latents(1, 6, 8, 5, 6)
    for tiled in (False, True):
        if tiled:
            vae.enable_tiling(**sizes)
        settings = StageSettings.model_validate(
            {
                "checkpoint": str(decoder.source.parent),
                "vae_tiling": tiled,
                "vae_config": sizes,
                "threads": 1,
            }
        )
        with torch.no_grad():
            video = vae.decode(z / vae.config["scaling_factor"]).sample
        expected = (video[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1).numpy()

        chunks = list(open_decoder(decoder.folder, settings).decode(z.numpy()))

        assert len(chunks) == 3, "a window at a time"
        np.testing.assert_allclose(np.concatenate(chunks), expected, rtol=0, atol=1e-4)
