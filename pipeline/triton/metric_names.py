"""The metrics that our stages add to Triton's own. This module does not import Triton;
`pipeline.triton.metrics` reports them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One metric, with its name in Prometheus."""

    name: str
    kind: Literal["counter", "gauge"]
    description: str


STEPS = Metric("triton_video_denoise_steps_total", "counter", "denoising steps that were made")
STEP_SECONDS = Metric(
    "triton_video_denoise_step_seconds_total",
    "counter",
    "seconds they took; over their number it is a step's mean",
)
REUSED_STEPS = Metric(
    "triton_video_denoise_reused_steps_total",
    "counter",
    "those of the steps that reused the result of an earlier one (step cache)",
)
RANKS_ALIVE = Metric(
    "triton_video_ranks_alive", "gauge", "ranks of the transformer that are ready or at work"
)
RANK_STARTS = Metric(
    "triton_video_rank_group_starts_total",
    "counter",
    "starts of the ranks; each but the first replaced a failed group",
)
COMPILE_SECONDS = Metric(
    "triton_video_compile_seconds_total",
    "counter",
    "seconds in which blocks of the transformer were compiled (--enable-torch-compile)",
)
BATCHES = Metric(
    "triton_video_denoise_batches_total",
    "counter",
    "batches of requests that were denoised together; a batch lasts until it is empty",
)
BATCHED = Metric(
    "triton_video_denoise_batched_requests_total",
    "counter",
    "requests that began in a batch or joined it",
)
OF_DIT = (
    *(STEPS, STEP_SECONDS, REUSED_STEPS, RANKS_ALIVE, RANK_STARTS, COMPILE_SECONDS, BATCHES),
    BATCHED,
)

ENCODINGS = Metric(
    "triton_video_encodings_total", "counter", "texts and images that were to be encoded"
)
REUSED_ENCODINGS = Metric(
    "triton_video_reused_encodings_total",
    "counter",
    "those of them whose result was kept from an earlier request",
)
OF_ENCODERS = (ENCODINGS, REUSED_ENCODINGS)
METRICS = (*OF_DIT, *OF_ENCODERS)
