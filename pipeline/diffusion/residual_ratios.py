"""Measure the table of a model's step cache while one video is denoised."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.diffusion.denoising import Predict, Sample
from pipeline.diffusion.guidance import Experts

Ratios = list[list[list[float]]]
"""By expert, branch of guidance and step, as in `pipeline.families.step_cache.table`."""


class ResidualRatios:
    """Predicts like ``predict``, for one sample, and notes how its residuals change.

    A ratio is the mean over tokens of |r_t| / |r_(t-1)|, as MagCache defines it (arXiv:2506.09045);
    the first one of an expert is 1. With a sharded sequence the tokens are those of this rank, and
    the branches those that this rank computes.
    """

    def __init__(self, predict: Predict, experts: Experts) -> None:
        self.ratios: Ratios = [[] for _ in experts.models]
        self._predict, self._experts = predict, experts

    def __call__(self, samples: Sequence[Sample]) -> Sequence[torch.Tensor]:
        (sample,) = samples
        expert = self.ratios[self._experts.index(sample.timestep)]
        before = torch.cat(sample.residuals) if expert else None
        sample.observed = True
        velocities = self._predict(samples)
        # (branches, tokens, width)
        residuals = torch.cat(sample.residuals)
        found = [1.0] * len(residuals) if before is None else _ratios(residuals, before)
        expert += [] if expert else [[] for _ in found]
        for branch, ratio in zip(expert, found, strict=True):
            branch.append(ratio)
        return velocities


def _ratios(residuals: torch.Tensor, before: torch.Tensor) -> list[float]:
    norms, others = (each.float().norm(dim=-1) for each in (residuals, before))
    return (norms / (others + 1e-8)).mean(dim=1).tolist()
