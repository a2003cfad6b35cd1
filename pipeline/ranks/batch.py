"""The samples that one rank denoises together. Requests join and leave between steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence, Set

import numpy as np

from pipeline.diffusion.denoising import Sample
from pipeline.diffusion.samples import Arrays
from pipeline.families import VideoRequest


class Batch:
    """The requests of a batch by place, which counts them in the order in which they came."""

    def __init__(
        self, make: Callable[[VideoRequest, Arrays], Sample], phase: Callable[[Sample], int]
    ) -> None:
        """``make`` makes the sample of a request. ``phase`` is that of the denoising loop."""
        self.requests: dict[int, VideoRequest] = {}
        self._make, self._phase = make, phase
        self._samples: dict[int, Sample] = {}
        self._came = 0

    @property
    def samples(self) -> dict[int, Sample]:
        """Return all samples that were not removed, which the denoising loop reads."""
        return self._samples

    @property
    def running(self) -> Mapping[int, Sample]:
        """Return the samples that are not done."""
        return {place: sample for place, sample in self._samples.items() if not sample.done}

    @property
    def open(self) -> bool:
        """Whether requests may join: not when one has reached the second phase, because it would
        have to wait for them.
        """
        return not any(map(self._phase, self.running.values()))

    def add(self, requests: Sequence[VideoRequest], arrays: Sequence[Arrays]) -> None:
        """Let requests take part from the next step on. ``arrays`` are their conditions."""
        for request, given in zip(requests, arrays, strict=True):
            self.requests[self._came] = request
            self._samples[self._came] = self._make(request, given)
            self._came += 1

    def not_finite(self) -> dict[int, str]:
        """Return an error for each running sample whose latents are not finite, by place."""
        return {
            place: f"latents are not finite after step {sample.step} of "
            f"{self.requests[place].num_inference_steps}"
            for place, sample in self.running.items()
            if not bool(sample.latents.isfinite().all())
        }

    def take_estimate(self) -> tuple[int, np.ndarray] | None:
        """Return the place of a running sample and its `Sample.estimate`, if any has a new one.

        The choice is random: the decoder skips estimates, and in turns it could skip those of the
        same sample each time.
        """
        fresh = [place for place, sample in self.running.items() if sample.estimate is not None]
        if not fresh:
            return None
        place = random.choice(fresh)
        estimate, self._samples[place].estimate = self._samples[place].estimate, None
        assert estimate is not None
        return place, estimate.float().cpu().numpy()

    def stop(self, places: Set[int]) -> None:
        for place in places & self._samples.keys():
            self._samples[place].stopped = True

    def take(self) -> dict[int, np.ndarray]:
        """Remove the samples that are done, and return the clean latents of those that were not
        stopped: float32 (1, C, T, H, W).
        """
        done = {place: sample for place, sample in self._samples.items() if sample.done}
        for place in done:
            del self._samples[place], self.requests[place]
        return {
            place: sample.latents.float().cpu().numpy()
            for place, sample in done.items()
            if not sample.stopped
        }
