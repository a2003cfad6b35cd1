"""The loop applies the image conditioning to the latents after the last step."""

from __future__ import annotations

import torch

from pipeline.diffusion.denoising import Sample, denoise
from pipeline.diffusion.image_conditioning import AsFirstFrame
from pipeline.diffusion.schedulers import build_scheduler


def test_first_frame_is_the_image_after_the_last_step() -> None:
    image = torch.full((1, 2, 1, 2, 2), 9.0)
    scheduler = build_scheduler("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, None, 2)
    sample = Sample(torch.zeros(1, 2, 3, 2, 2), scheduler, {}, conditioning=AsFirstFrame(image, 1))
    denoise([sample], lambda running: [torch.ones(1, 2, 3, 2, 2)], lambda running: None)
    assert torch.equal(sample.latents[:, :, :1], image)
    assert (sample.latents[:, :, 1:] == -1).all()
