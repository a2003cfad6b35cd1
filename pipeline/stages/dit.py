"""Stage ``dit``: from text embeddings and a seed to clean latents, by ranks that are processes of their own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.checkpoint import Checkpoint
from pipeline.parallel.layout import Layout
from pipeline.ranks.group import Plan, RankGroup
from pipeline.spec import VideoRequest
from pipeline.stages.settings import StageSettings


class DitStage:
    """Leads the ranks and touches no device itself; one request at a time."""

    def __init__(self, checkpoint: Checkpoint, settings: StageSettings):
        """Returns when every rank has its weights. Raises ``RankError`` with a rank's own error."""
        checkpoint.require_denoising()
        layout = Layout(settings.ulysses_degree, settings.ring_degree, settings.guidance_branches)
        self.ranks = RankGroup(Plan(checkpoint.path, settings.precision, settings.threads, layout))

    def run(
        self,
        request: VideoRequest,
        prompt_embeds: np.ndarray,
        negative_embeds: np.ndarray,
        before_step: Callable[[int], None],
    ) -> np.ndarray:
        """Embeddings float32 (1, L, D), not padded, to normalised latents float32 (1, C, T, H, W).

        ``before_step(i)`` is called before each denoising step and may raise to stop.
        """
        return self.ranks.run(request, prompt_embeds, negative_embeds, before_step)

    def close(self) -> None:
        self.ranks.close()
