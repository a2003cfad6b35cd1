"""A request and the arrays of the earlier stages become a sample, for each kind of family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.checkpoint.folder import Checkpoint
from pipeline.diffusion.image_conditioning import AsFirstFrame, InChannels, NoImage
from pipeline.diffusion.samples import Samples, initial_noise
from pipeline.ensemble.tensors import (
    IMAGE_EMBEDS,
    IMAGE_LATENTS,
    NEGATIVE_EMBEDS,
    POOLED_EMBEDS,
    PROMPT_EMBEDS,
)
from pipeline.families import SamplingParams, VideoRequest
from tests.conftest import SHAPES

CPU = torch.device("cpu")


def samples(checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> Samples:
    return Samples(checkpoint, CPU, dtype)


def request(checkpoint: Checkpoint, *, image: bool = False, **values: Any) -> VideoRequest:
    params = SamplingParams(prompt="-", seed=7, num_inference_steps=3, **values)
    return checkpoint.info.resolve(params, image=(32, 48) if image else None)


def embeds(width: int, tokens: int = 9, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, tokens, width)).astype(np.float32)


@pytest.fixture
def shapes() -> Checkpoint:
    return Checkpoint.open(SHAPES)


@pytest.fixture
def texts(shapes: Checkpoint) -> dict[str, np.ndarray]:
    width = shapes.info.text_dim
    return {
        PROMPT_EMBEDS.key: embeds(width, 9, 1),
        NEGATIVE_EMBEDS.key: embeds(width, 4, 2),
    }


def test_noise_is_drawn_from_the_seed(shapes: Checkpoint, texts: dict[str, np.ndarray]) -> None:
    asked = request(shapes)
    sample = samples(shapes).make(asked, texts)
    shape = shapes.info.latent_shape(asked)
    expected = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(7))
    assert torch.equal(sample.latents, expected)
    drawn = initial_noise(shape, torch.Generator("cpu").manual_seed(7))
    assert torch.equal(sample.latents, drawn)
    assert sample.generator is None
    assert sample.step == 0


def test_texts_are_zero_padded_to_max_sequence_length(
    shapes: Checkpoint, texts: dict[str, np.ndarray]
) -> None:
    sample = samples(shapes).make(request(shapes, guidance_scale=3.0), texts)
    assert sample.negative is not None
    length = shapes.info.defaults.max_sequence_length
    for conditions, name in (
        (sample.positive, PROMPT_EMBEDS.key),
        (sample.negative, NEGATIVE_EMBEDS.key),
    ):
        assert list(conditions) == ["encoder_hidden_states"]
        states, given = conditions["encoder_hidden_states"], torch.from_numpy(texts[name])
        assert states.shape == (1, length, shapes.info.text_dim)
        assert torch.equal(states[:, : given.shape[1]], given)
        assert not states[:, given.shape[1] :].any()


@pytest.mark.parametrize(("scale", "guided"), [(0.0, False), (1.0, False), (1.5, True)])
def test_only_guidance_above_one_uses_a_negative_prompt(
    shapes: Checkpoint, texts: dict[str, np.ndarray], scale: float, guided: bool
) -> None:
    sample = samples(shapes).make(request(shapes, guidance_scale=scale), texts)
    assert (sample.negative is not None) == guided
    assert sample.guidance_scales == (scale, scale)


def test_second_expert_may_have_its_own_scale(
    build_family: Callable[[str], Path],
) -> None:
    checkpoint = Checkpoint.open(build_family("wan2.2-t2v"))
    width = checkpoint.info.text_dim
    arrays = {PROMPT_EMBEDS.key: embeds(width), NEGATIVE_EMBEDS.key: embeds(width)}
    asked = request(checkpoint, guidance_scale=3.0, guidance_scale_2=2.0)
    assert samples(checkpoint).make(asked, arrays).guidance_scales == (3.0, 2.0)


def test_bf16_applies_only_to_the_conditions(
    shapes: Checkpoint, texts: dict[str, np.ndarray]
) -> None:
    sample = samples(shapes, torch.bfloat16).make(request(shapes, guidance_scale=3.0), texts)
    assert sample.latents.dtype == torch.float32
    assert sample.negative is not None
    for conditions in (sample.positive, sample.negative):
        assert {tensor.dtype for tensor in conditions.values()} == {torch.bfloat16}


def test_each_request_has_its_own_schedule(
    shapes: Checkpoint, texts: dict[str, np.ndarray]
) -> None:
    plain, shifted = (
        samples(shapes).make(request(shapes, flow_shift=shift), texts) for shift in (3.0, 9.0)
    )
    assert len(plain.scheduler.timesteps) == 3
    assert shifted.scheduler.sigmas[1] > plain.scheduler.sigmas[1]
    assert plain.scheduler is not samples(shapes).make(request(shapes), texts).scheduler


def test_text_to_video_family_has_no_image(
    shapes: Checkpoint, texts: dict[str, np.ndarray]
) -> None:
    assert isinstance(samples(shapes).make(request(shapes), texts).conditioning, NoImage)


def test_distilled_family_has_fixed_timesteps_and_draws_new_noise(
    shapes: Checkpoint, texts: dict[str, np.ndarray]
) -> None:
    defaults = shapes.info.defaults.model_copy(update={"denoising_timesteps": (1000, 757, 522)})
    info = shapes.info.model_copy(update={"defaults": defaults})
    sample = samples(replace(shapes, info=info)).make(request(shapes), texts)
    np.testing.assert_allclose(sample.scheduler.timesteps, [1000, 757, 522], rtol=1e-6)
    assert sample.generator is not None
    drawn = torch.Generator("cpu").manual_seed(7)
    initial_noise(sample.latents.shape, drawn)
    assert torch.equal(sample.generator.get_state(), drawn.get_state()), "after the first noise"


def test_image_latents_are_concatenated_to_the_noise_as_channels(
    build_family: Callable[[str], Path],
) -> None:
    checkpoint = Checkpoint.open(build_family("wan2.1-i2v"))
    asked = request(checkpoint, image=True, guidance_scale=3.0)
    shape, width = checkpoint.info.latent_shape(asked), checkpoint.info.text_dim
    latents = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    pixels = embeds(12, 5, 4)
    arrays = {
        PROMPT_EMBEDS.key: embeds(width),
        NEGATIVE_EMBEDS.key: embeds(width, 3),
        IMAGE_EMBEDS.key: pixels,
        IMAGE_LATENTS.key: latents,
    }
    sample = samples(checkpoint).make(asked, arrays)
    assert isinstance(sample.conditioning, InChannels)
    assert sample.negative is not None
    for conditions in (sample.positive, sample.negative):
        states = conditions["encoder_hidden_states_image"]
        assert torch.equal(states, torch.from_numpy(pixels))
    noise = sample.latents.shape[1]
    hidden, _ = sample.conditioning.enter(sample.latents, torch.tensor(7.0))
    assert torch.equal(hidden[:, -noise:], torch.from_numpy(latents))
    mask = hidden[:, noise:-noise]
    assert mask.shape[1] == checkpoint.info.temporal_compression
    assert mask[:, :, 0].all()
    assert not mask[:, :, 1:].any()


@pytest.mark.parametrize("image", [False, True])
def test_optional_image_replaces_the_first_frame(
    build_family: Callable[[str], Path], image: bool
) -> None:
    checkpoint = Checkpoint.open(build_family("wan2.2-ti2v"))
    asked = request(checkpoint, image=image)
    batch, channels, _, height, width = checkpoint.info.latent_shape(asked)
    arrays = {
        name.key: embeds(checkpoint.info.text_dim) for name in (PROMPT_EMBEDS, NEGATIVE_EMBEDS)
    }
    first = np.full((batch, channels, 1, height, width), 9, np.float32)
    if image:
        arrays[IMAGE_LATENTS.key] = first
    sample = samples(checkpoint).make(asked, arrays)
    hidden, timesteps = sample.conditioning.enter(sample.latents, torch.tensor(7.0))
    if not image:
        assert hidden is sample.latents
        assert timesteps.tolist() == [7]
        return
    assert isinstance(sample.conditioning, AsFirstFrame)
    assert hidden.shape == sample.latents.shape
    assert torch.equal(hidden[:, :, 1:], sample.latents[:, :, 1:])
    assert torch.equal(hidden[:, :, :1], torch.from_numpy(first))
    tokens = (height // checkpoint.info.patch_size) * (width // checkpoint.info.patch_size)
    assert timesteps[0, :tokens].tolist() == [0] * tokens
    assert (timesteps[0, tokens:] == 7).all()


def test_hunyuan_video_has_no_negative_prompt_and_masks_nothing(
    build_family: Callable[[str], Path],
) -> None:
    checkpoint = Checkpoint.open(build_family("hunyuan-video"))
    cut = checkpoint.family.template_tokens
    assert cut > 0
    states, pooled = embeds(24, cut + 5), embeds(20)[:, 0]
    asked = request(checkpoint, guidance_scale=6.0)
    sample = samples(checkpoint).make(asked, {PROMPT_EMBEDS.key: states, POOLED_EMBEDS.key: pooled})
    assert sample.negative is None
    assert torch.equal(sample.positive["encoder_hidden_states"], torch.from_numpy(states[:, cut:]))
    assert sample.positive["encoder_attention_mask"].tolist() == [[1.0] * 5]
    assert torch.equal(sample.positive["pooled_projections"], torch.from_numpy(pooled))
    assert sample.positive["guidance"].tolist() == [6000.0]
    np.testing.assert_allclose(sample.scheduler.timesteps[0], 1000.0)
    linear = np.array([1, 2 / 3, 1 / 3])
    shift = sample.scheduler.config.shift if asked.flow_shift is None else asked.flow_shift
    expected = shift * linear / (1 + (shift - 1) * linear)
    np.testing.assert_allclose(sample.scheduler.sigmas[:3], expected, rtol=1e-6)
