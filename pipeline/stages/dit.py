"""Stage ``dit``: from text embeddings and a seed to clean latents, by ranks that are processes
of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import VideoRequest
from pipeline.parallel.layout import Layout
from pipeline.ranks.group import Outcome, Plan, RankGroup, Task
from pipeline.settings import StageSettings


class DitStage:
    """Leads the ranks and touches no device itself; one batch of requests at a time."""

    def __init__(self, checkpoint: Checkpoint, settings: StageSettings):
        """Returns when every rank has its weights. Raises ``RankError`` with a rank's own error."""
        layout = Layout(settings.ulysses_degree, settings.ring_degree, settings.guidance_branches)
        self.ranks = RankGroup(
            Plan(
                checkpoint.path,
                settings.precision,
                settings.threads,
                layout,
                settings.resident,
                settings.pin_cpu_memory,
            )
        )

    def run(
        self,
        request: VideoRequest,
        arrays: Mapping[str, np.ndarray],
        before_step: Callable[[int], None],
    ) -> np.ndarray:
        """Conditions to normalised latents float32 (1, C, T, H, W).

        ``arrays`` are float32: ``prompt_embeds`` (1, L, D) and, of families that have them,
        ``negative_embeds``, ``pooled_embeds`` (1, P), ``image_embeds`` (1, N, E),
        ``image_latents`` (1, C, t, H, W), which may be left out where a picture may. Texts are
        not padded.

        ``before_step(i)`` is called before each denoising step and may raise to stop.
        """
        return self.ranks.run(request, arrays, before_step)

    def run_batch(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Requests of one shape to what each comes to. Raises ``RankError`` where all have
        failed.
        """
        return self.ranks.run_batch(tasks)

    def close(self) -> None:
        self.ranks.close()
