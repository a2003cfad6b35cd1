"""The exported CLIP image encoder against what Wan's image-to-video pipeline in diffusers reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image

from tests.export.components.conftest import ExportedPart

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def clip(export_part) -> ExportedPart:
    return export_part("wan2.1-i2v", "image_encoder")


@pytest.mark.parametrize("pictures", [1, 2, 3])
def test_embeddings_equal_the_pipelines(clip: ExportedPart, pictures: int) -> None:
    pipeline = WanImageToVideoPipeline.from_pretrained(
        clip.checkpoint.path, transformer=None, vae=None
    )
    noise = np.random.default_rng(pictures).integers(0, 256, (pictures, 32, 48, 3), dtype=np.uint8)
    images = [Image.fromarray(each) for each in noise]
    with torch.no_grad():
        expected = pipeline.encode_image(images).numpy()
    assert expected.std() > 0.1, "flat embeddings would hide mistakes"
    pixels = pipeline.image_processor(images=images, return_tensors="np").pixel_values
    (embeds,) = clip.run("model", pixels)
    np.testing.assert_allclose(embeds, expected, rtol=0, atol=TOLERANCE)
