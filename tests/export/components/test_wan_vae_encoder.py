"""The two exported graphs, run chunk by chunk, against the encode of the whole clip in
diffusers.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from tests.export.components.conftest import ExportedPart

TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=["wan2.1-i2v", "wan2.2-ti2v"])
def encoder(request: pytest.FixtureRequest, export_part) -> ExportedPart:
    return export_part(request.param, "vae_encoder")


def encode(encoder: ExportedPart, frames: np.ndarray) -> np.ndarray:
    latents, *caches = encoder.run("first", frames[:1])
    chunks = [latents]
    for start in range(1, len(frames), 4):
        latents, *caches = encoder.run("next", frames[start : start + 4], *caches)
        chunks.append(latents)
    return np.concatenate(chunks, axis=2)


def reference(encoder: ExportedPart, frames: np.ndarray) -> np.ndarray:
    vae = AutoencoderKLWan.from_pretrained(encoder.source)
    mean, std = (
        torch.tensor(vae.config[key]).view(1, -1, 1, 1, 1)
        for key in ("latents_mean", "latents_std")
    )
    video = torch.from_numpy(frames * 2 - 1).permute(3, 0, 1, 2).unsqueeze(0)
    with torch.no_grad():
        mode = vae.encode(video).latent_dist.mode()
    return ((mode - mean) / std).numpy()


# Frames, and height and width in latent cells: none is the size that was traced.
@pytest.mark.parametrize("size", [(1, 4, 3), (5, 3, 5), (13, 2, 4), (9, 1, 1)])
def test_equals_whole_clip_encode(encoder: ExportedPart, size: tuple[int, int, int]) -> None:
    count, height, width = size
    cell = encoder.checkpoint.info.spatial_compression
    frames = np.random.default_rng(5).random(
        (count, height * cell, width * cell, 3), dtype=np.float32
    )
    frames[1:] *= np.linspace(0, 1, count - 1, dtype=np.float32).reshape(-1, 1, 1, 1)
    expected = reference(encoder, frames)
    # What is left when the constant of each channel is taken away depends on the pictures.
    assert (expected - expected.mean(axis=(2, 3, 4), keepdims=True)).std() > 0.02 or height == 1
    np.testing.assert_allclose(encode(encoder, frames), expected, rtol=0, atol=TOLERANCE)


def test_graphs_have_the_promised_tensors(encoder: ExportedPart) -> None:
    first, following = (
        onnx.load(encoder.folder / name).graph for name in ("first.onnx", "next.onnx")
    )
    count = len(following.input) - 1
    assert [value.name for value in first.input] == ["frames"]
    assert [value.name for value in following.input] == [
        "frames",
        *(f"cache_{index}" for index in range(count)),
    ]
    for graph in (first, following):
        assert [value.name for value in graph.output] == [
            "latents",
            *(f"new_cache_{index}" for index in range(count)),
        ]
        kept = [value.type.tensor_type.shape.dim[2].dim_value for value in graph.output[1:]]
        assert sorted(set(kept)) == [1, 2]
        assert kept.count(1) == 2, "one frame for each of the two temporal downsamplers"
