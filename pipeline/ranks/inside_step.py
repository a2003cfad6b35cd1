"""Stops requests inside a denoising step, which takes minutes for a large model on a CPU.

Between the linear layers of a transformer, or the blocks if they are compiled, the rank asks the
leader, at most once a second. Only a single rank does this: ranks that share a sequence would have
to agree before each layer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from pipeline.diffusion.denoising import Predict, Sample

ASK_S = 1.0


class _AbandonedError(Exception):
    """All samples of the step were stopped."""


class InsideStep:
    """Calls ``ask`` before any of ``modules`` runs; abandons the forward pass when it returns
    True.
    """

    def __init__(self, modules: Iterable[torch.nn.Module]) -> None:
        self._ask: Callable[[], bool] | None = None
        self._next = 0.0
        for module in modules:
            module.register_forward_pre_hook(self._between_modules)

    def begin(self, ask: Callable[[], bool]) -> None:
        """Record that a step begins. ``ask`` returns whether all of its samples were stopped."""
        self._ask, self._next = ask, time.monotonic() + ASK_S

    def abandoning(self, predict: Predict) -> Predict:
        """Wrap ``predict`` so that it returns the latents unchanged if all samples were stopped."""

        def abandonable(samples: Sequence[Sample]) -> Sequence[torch.Tensor]:
            try:
                return predict(samples)
            except _AbandonedError:
                return [sample.latents for sample in samples]

        return abandonable

    def _between_modules(self, _module: torch.nn.Module, _inputs: Any) -> None:
        if self._ask and time.monotonic() >= self._next:
            self._next = time.monotonic() + ASK_S
            if self._ask():
                raise _AbandonedError
