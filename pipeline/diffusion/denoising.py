"""The denoising loop: samples, a model of the velocity, and schedules. Everything else hooks into
it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.diffusion.image_conditioning import ImageConditioning, NoImage

Conditions = Mapping[str, torch.Tensor]
"""The keyword arguments of a transformer, each with a row for every sample."""


@dataclass(eq=False)
class Sample:
    """One video while it is denoised from noise to clean latents, which are float32 (1, C, T, H,
    W).

    ``scheduler`` belongs to this sample, with its timesteps set: multistep solvers keep a history.
    ``negative`` is None if guidance is off. ``guidance_scales`` has one value for each expert.
    ``stopped`` ends the sample before its schedule does.

    The steps in ``reused_steps`` reuse the ``residuals`` of the last step that was computed, one
    for each branch of guidance. ``observed``: residuals are kept after every step.
    """

    latents: torch.Tensor
    scheduler: Any
    positive: Conditions
    negative: Conditions | None = None
    guidance_scales: Sequence[float] = (1.0,)
    conditioning: ImageConditioning = field(default_factory=NoImage)
    generator: torch.Generator | None = None
    step: int = 0
    stopped: bool = False
    reused_steps: frozenset[int] = frozenset()
    residuals: list[torch.Tensor] = field(default_factory=list)
    observed: bool = False
    previewed: bool = False
    estimate: torch.Tensor | None = None
    """The clean latents (1, C, t, H, W) that the last step expected, of the first frame; None if
    the sample is not ``previewed``. If an image gives the first frame, t is 2, and the second one
    is from the middle of the video.
    """

    @property
    def timestep(self) -> torch.Tensor:
        return self.scheduler.timesteps[self.step]

    @property
    def done(self) -> bool:
        return self.stopped or self.step == len(self.scheduler.timesteps)

    @property
    def reuses(self) -> bool:
        """Whether the next step reuses the residuals."""
        return self.step in self.reused_steps

    @property
    def records(self) -> bool:
        """Whether the next step, if it is computed, keeps its residuals for a later one."""
        return self.observed or self.step + 1 in self.reused_steps

    def advance(self, velocity: torch.Tensor) -> None:
        """Advance by one step of the schedule. ``velocity`` has the shape of the latents."""
        if self.step == 0:
            self.scheduler.set_begin_index(0)
        if self.previewed:
            self.estimate = self._expected(velocity)
        # Only schedules that add noise themselves take a generator.
        noise = {} if self.generator is None else {"generator": self.generator}
        self.latents = self.scheduler.step(
            velocity, self.timestep, self.latents, return_dict=False, **noise
        )[0]
        self.step += 1
        if self.done:
            self.latents = self.conditioning.leave(self.latents)

    def _expected(self, velocity: torch.Tensor) -> torch.Tensor:
        """Return the latents of ``estimate``: x0 = x - sigma v, where x = (1 - sigma) x0 + sigma
        noise and v = noise - x0 (flow matching, arXiv:2210.02747).
        """
        clean = self.conditioning.leave(self.latents - self.scheduler.sigmas[self.step] * velocity)
        given, last = self.conditioning.given_frames, clean.shape[2] - 1
        places = [0, min(last, max(given, last // 2))] if given and last else [0]
        return clean[:, :, places]


Predict = Callable[[Sequence[Sample]], Sequence[torch.Tensor]]
"""Returns the velocity of the probability flow at each sample, in the shape of its latents."""


def denoise(
    samples: Collection[Sample],
    predict: Predict,
    before_step: Callable[[Sequence[Sample]], None],
    phase: Callable[[Sample], int] = lambda _: 0,
) -> None:
    """Integrate every sample from noise to clean latents, each over its own
    ``scheduler.timesteps``.

    ``before_step`` receives the samples that are not done, and may stop some of them: the others
    continue. It may also add samples to ``samples``, which join before this step, and remove those
    that are done. ``phase`` returns a number that never falls along a schedule. Samples of the
    lowest phase make their steps first, and the others wait for them: a batch changes experts once.
    """
    while running := [sample for sample in samples if not sample.done]:
        before_step(running)
        going = [sample for sample in samples if not sample.done]
        first = min(map(phase, going), default=0)
        going = [sample for sample in going if phase(sample) == first]
        for sample, velocity in zip(going, predict(going), strict=True):
            sample.advance(velocity)
