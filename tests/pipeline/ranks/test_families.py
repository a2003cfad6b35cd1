"""Every family's latents match its diffusers pipeline for the same conditions and seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline
from diffusers.schedulers.scheduling_flow_match_lcm import FlowMatchLCMScheduler
from PIL import Image

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import SamplingParams, VideoRequest
from pipeline.families.hunyuan import TEMPLATE_TOKENS
from pipeline.parallel.layout import Layout
from pipeline.ranks.denoiser import Denoiser
from pipeline.ranks.group import RankGroup
from tests.checkpoints.wan import distil
from tests.diffusers_call import call_diffusers
from tests.needs import exhaustive
from tests.pipeline.ranks.groups import run_one, settings, single_rank

PROMPT, NEGATIVE = "a red circle moves right", "blue square"
Conditions = dict[str, np.ndarray]


def request_for(path: Path, *, image: tuple[int, int] | None = None, **params: Any) -> VideoRequest:
    return Checkpoint.open(path).info.resolve(
        SamplingParams(prompt=PROMPT, seed=11, **params), image=image
    )


def load(path: Path, kind: Any = diffusers.DiffusionPipeline) -> Any:
    pipeline = kind.from_pretrained(path)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def wan_texts(pipeline: Any, path: Path) -> Conditions:
    longest = Checkpoint.open(path).info.defaults.max_sequence_length
    with torch.no_grad():
        positive, negative = pipeline.encode_prompt(PROMPT, NEGATIVE, max_sequence_length=longest)
    return {"prompt_embeds": positive.numpy(), "negative_embeds": negative.numpy()}


def texts_of(conditions: Conditions) -> dict[str, torch.Tensor]:
    names = {"prompt_embeds": "prompt_embeds", "negative_prompt_embeds": "negative_embeds"}
    return {theirs: torch.from_numpy(conditions[ours]) for theirs, ours in names.items()}


def with_image(pipeline: Any, request: VideoRequest, image: Image.Image) -> Conditions:
    """Return what the stages before ``dit`` make of an image, computed by diffusers."""
    pixels = pipeline.video_processor.preprocess(
        image, height=request.height, width=request.width
    ).float()
    z_dim = pipeline.vae.config.z_dim
    with torch.no_grad():
        _, condition, *_ = pipeline.prepare_latents(
            pixels,
            1,
            z_dim,
            request.height,
            request.width,
            request.num_frames,
            torch.float32,
            torch.device("cpu"),
        )
        made = {"image_latents": condition[:, -z_dim:].numpy()}
        if pipeline.image_encoder is not None:
            made["image_embeds"] = pipeline.encode_image(image, torch.device("cpu")).numpy()
    return made


def denoised(path: Path, request: VideoRequest, conditions: Conditions) -> np.ndarray:
    latents = Denoiser(single_rank(path)).run([request], [conditions], lambda batch: None)[0]
    assert latents is not None
    return latents


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert theirs.std() > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["wan2.1-t2v", "wan2.2-t2v", "wan2.2-ti2v"])
def test_text_to_video_latents_equal_diffusers(
    build_family: Callable[[str], Path], family: str
) -> None:
    path = build_family(family)
    pipeline, request = load(path), request_for(path, num_inference_steps=6)
    conditions = wan_texts(pipeline, path)
    theirs = call_diffusers(pipeline, request, "latent", **texts_of(conditions))
    close(denoised(path, request, conditions), theirs)


@pytest.mark.parametrize("family", ["wan2.1-i2v", "wan2.2-i2v", "wan2.2-ti2v"])
def test_image_to_video_latents_equal_diffusers(
    build_family: Callable[[str], Path], family: str
) -> None:
    path = build_family(family)
    pipeline, request = load(path, WanImageToVideoPipeline), request_for(path, image=(90, 60))
    noise = np.random.default_rng(3).integers(0, 256, (20, 31, 3), np.uint8)
    image = Image.fromarray(noise).resize((90, 60))
    conditions = wan_texts(pipeline, path) | with_image(pipeline, request, image)
    theirs = call_diffusers(pipeline, request, "latent", image=image, **texts_of(conditions))
    close(denoised(path, request, conditions), theirs)


def test_hunyuan_video_latents_equal_diffusers(build_family: Callable[[str], Path]) -> None:
    path = build_family("hunyuan-video")
    pipeline, request = load(path), request_for(path)
    with torch.no_grad():
        text, pooled, mask = pipeline.encode_prompt(PROMPT, max_sequence_length=20)
    theirs = call_diffusers(
        pipeline,
        request,
        "latent",
        prompt_embeds=text,
        pooled_prompt_embeds=pooled,
        prompt_attention_mask=mask,
    )
    tokens = int(mask.sum())
    assert tokens > 0
    template = torch.zeros(1, TEMPLATE_TOKENS, text.shape[2])  # whose embeddings are cut off
    embeds = torch.cat((template, text[:, :tokens]), dim=1)
    conditions = {"prompt_embeds": embeds.numpy(), "pooled_embeds": pooled.numpy()}
    close(denoised(path, request, conditions), theirs)


def test_fastwan_latents_equal_diffusers_with_new_noise_each_step(
    build_family: Callable[[str], Path], tmp_path: Path
) -> None:
    """The reference is diffusers' Wan pipeline with an LCM scheduler that gets a generator, which
    the pipeline itself cannot pass.
    """
    path = build_family("wan2.1-t2v")
    pipeline, fast = load(path), distil(path, tmp_path / "fast")
    request = request_for(fast)
    assert (request.num_inference_steps, request.guidance_scale) == (3, 1.0)

    noise = torch.Generator("cpu").manual_seed(request.seed)

    class Seeded(FlowMatchLCMScheduler):
        def set_timesteps(self, *_: Any, device: Any = None, **__: Any) -> None:
            super().set_timesteps(sigmas=[1.0, 0.757, 0.522], device=device)
            noise.manual_seed(request.seed)
            torch.randn(Checkpoint.open(fast).info.latent_shape(request), generator=noise)

        def step(self, *args: Any, **options: Any) -> Any:
            return super().step(*args, generator=noise, **options)

    pipeline.scheduler = Seeded()
    conditions = wan_texts(pipeline, fast)
    close(
        denoised(fast, request, conditions),
        call_diffusers(pipeline, request, "latent", **texts_of(conditions)),
    )


@pytest.mark.ranks
@pytest.mark.parametrize(
    "layout",
    [Layout(ulysses=2), exhaustive(Layout(ring=2)), exhaustive(Layout(branches=2))],
    ids=str,
)
def test_two_experts_on_two_ranks_equal_one_rank(
    build_family: Callable[[str], Path], layout: Layout
) -> None:
    path = build_family("wan2.2-t2v")
    request = request_for(path, num_inference_steps=6)
    conditions = wan_texts(load(path), path)
    with RankGroup(settings(path, layout)) as group:
        ours = run_one(group, request, conditions)
    close(ours, denoised(path, request, conditions))
