"""Latents of edits, extensions and videos with a last frame equal those of diffusers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanVideoToVideoPipeline
from PIL import Image

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import SamplingParams, VideoRequest
from tests.checkpoints.wan import distil
from tests.diffusers_call import call_diffusers
from tests.pipeline.ranks.test_families import PROMPT, close, denoised, load, texts_of, wan_texts

SEED = 11
CPU = torch.device("cpu")


def request_for(path: Path, **files: Any) -> VideoRequest:
    params = SamplingParams(prompt=PROMPT, seed=SEED, num_inference_steps=6)
    return Checkpoint.open(path).info.resolve(params, **files)


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (20, 31, 3), np.uint8)
    return Image.fromarray(noise).resize((90, 60))


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize("family", ["wan2.1-flf2v", "wan2.2-i2v"])
def test_latents_between_two_images_equal_diffusers(
    build_family: Callable[[str], Path], family: str
) -> None:
    path = build_family(family)
    pipeline = load(path, WanImageToVideoPipeline)
    request = request_for(path, image=(90, 60), last_frame=True)
    first, last = picture(3), picture(4)
    size = {"height": request.height, "width": request.width}
    pixels = [pipeline.video_processor.preprocess(each, **size) for each in (first, last)]
    z_dim = pipeline.vae.config.z_dim
    with torch.no_grad():
        _, condition = pipeline.prepare_latents(
            pixels[0], 1, z_dim, request.height, request.width, request.num_frames,
            torch.float32, CPU, last_image=pixels[1],
        )  # fmt: skip
        given = {"image_latents": condition[:, -z_dim:].numpy()}
        if pipeline.image_encoder is not None:
            given["image_embeds"] = pipeline.encode_image([first, last], CPU).numpy()
    conditions = wan_texts(pipeline, path)
    images = {"image": first, "last_image": last}
    theirs = call_diffusers(pipeline, request, "latent", **images, **texts_of(conditions))
    close(denoised(path, request, conditions | given), theirs)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("family", ["wan2.1-t2v", "wan2.2-ti2v", "small-ti2v"])
def test_latents_of_an_edit_equal_diffusers(
    build_family: Callable[[str], Path], family: str, strength: float
) -> None:
    path = build_family(family)
    request = request_for(path).model_copy(update={"strength": strength})
    plain = load(path)
    parts = {name: part for name, part in plain.components.items() if "2" not in name}
    pipeline: Any = WanVideoToVideoPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    conditions = wan_texts(plain, path)
    shape = Checkpoint.open(path).info.latent_shape(request)
    clean = normal(5, *shape)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(request.num_inference_steps)
    first = 3 if strength == 0.5 else 0
    begin = scheduler.timesteps[first : first + 1]
    noised = (
        scheduler.add_noise(torch.from_numpy(clean), noise, begin)
        if hasattr(scheduler, "add_noise")
        else scheduler.scale_noise(torch.from_numpy(clean), begin, noise)
    )
    theirs = pipeline(
        latents=noised,
        strength=strength,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        output_type="latent",
        **texts_of(conditions),
    ).frames
    close(denoised(path, request, conditions | {"image_latents": clean}), theirs.numpy())


def test_a_distilled_model_edits_from_one_of_its_timesteps(
    build_family: Callable[[str], Path], tmp_path: Path
) -> None:
    path = distil(build_family("small-ti2v"), tmp_path / "distilled")
    plain = Checkpoint.open(path).info.resolve(SamplingParams(prompt=PROMPT, seed=SEED))
    shape = Checkpoint.open(path).info.latent_shape(plain)
    texts = wan_texts(load(build_family("small-ti2v")), path)
    one, other = ({"image_latents": normal(seed, *shape)} for seed in (1, 2))
    whole, part = (plain.model_copy(update={"strength": strength}) for strength in (1.0, 0.7))
    # The first of its timesteps is noise alone, so that nothing of the source is left.
    np.testing.assert_allclose(
        denoised(path, whole, texts | one), denoised(path, plain, texts), rtol=0, atol=1e-5
    )
    assert part.first_step == 1
    made = [denoised(path, part, texts | source) for source in (one, other)]
    assert np.abs(made[0] - made[1]).max() > 1e-2


@pytest.mark.parametrize("family", ["wan2.2-ti2v", "small-ti2v"])
@pytest.mark.parametrize("prefix", [1, 2, 3])
def test_latents_after_clean_ones_equal_diffusers(
    build_family: Callable[[str], Path], family: str, prefix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline of diffusers keeps one clean latent frame; here its condition has more."""
    path = build_family(family)
    pipeline, request = load(path, WanImageToVideoPipeline), request_for(path)
    request = request.model_copy(update={"num_frames": 17})
    shape = Checkpoint.open(path).info.latent_shape(request)
    given = normal(6, *shape[:2], prefix, *shape[3:])
    condition = torch.zeros(shape)
    condition[:, :, :prefix] = torch.from_numpy(given)
    mask = torch.ones(1, 1, *shape[2:])
    mask[:, :, :prefix] = 0
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
    monkeypatch.setattr(pipeline, "prepare_latents", lambda *_: (noise, condition, mask))
    conditions = wan_texts(pipeline, path)
    theirs = call_diffusers(pipeline, request, "latent", image=picture(3), **texts_of(conditions))
    made = denoised(path, request, conditions | {"image_latents": given})
    close(made, theirs)
    np.testing.assert_array_equal(made[:, :, :prefix], given)
