"""The memory plan covers the branches of guidance and HunyuanVideo's VAE."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.families import SamplingParams
from pipeline.memory.capacity import Capacity
from pipeline.memory.fitting import fitted
from pipeline.memory.placement import HOST
from pipeline.memory.plan import GPU_MARGIN, plan_of
from pipeline.memory.transformer import denoising
from pipeline.memory.vae import HUNYUAN_ON_CPU, MASK_COPIES, decoding, hunyuan_decoder_peak
from pipeline.parallel.layout import Layout
from pipeline.settings import StageSettings, VaeConfig
from tests.conftest import SHAPES

GPUS = Capacity(1 << 40, (1 << 40,) * 4)


def settings(**values: object) -> StageSettings:
    return StageSettings(checkpoint="-", **values)


@pytest.mark.parametrize(("ulysses", "ring", "branches"), [(1, 1, 2), (2, 1, 2), (1, 2, 2)])
def test_every_branch_of_guidance_has_its_own_ranks(ulysses: int, ring: int, branches: int) -> None:
    checkpoint = Checkpoint.open(SHAPES)
    request = checkpoint.info.resolve(SamplingParams(prompt="-"))
    asked = settings(ulysses_degree=ulysses, ring_degree=ring, guidance_branches=branches)
    ranks = ulysses * ring * branches
    for capacity in (GPUS, Capacity(1 << 40)):
        plan = plan_of(checkpoint, asked, request, capacity)
        places = [n.place for n in plan.needs if n.stage == "dit" and n.what == "activations"]
        on_gpus = [f"GPU {rank}" for rank in range(ranks)]
        assert places == (on_gpus if capacity.gpus else [HOST] * ranks)
        working = denoising(checkpoint, request, Layout(ulysses, ring, branches))
        margin = GPU_MARGIN if capacity.gpus else 1
        sizes = {n.size for n in plan.needs if n.stage == "dit" and n.what == "activations"}
        assert sizes == {round(margin * working)}


def test_branches_of_guidance_need_one_gpu_each() -> None:
    checkpoint = Checkpoint.open(SHAPES)
    request = checkpoint.info.resolve(SamplingParams(prompt="-"))
    asked = settings(guidance_branches=2)
    with pytest.raises(InputError, match="2 ranks need a GPU each, and there are 1 here"):
        fitted(checkpoint, asked, request, Capacity(1 << 40, (1 << 40,)))
    assert fitted(checkpoint, asked, request, GPUS)[0] is asked


@pytest.mark.parametrize(
    ("window", "frames", "tokens"), [(16, 17, 5 * 8 * 12), (16, 9, 3 * 8 * 12), (8, 17, 3 * 8 * 12)]
)
def test_hunyuan_video_decodes_one_window_at_a_time(
    build_family: Callable[[str], Path], window: int, frames: int, tokens: int
) -> None:
    checkpoint = Checkpoint.open(build_family("hunyuan-video"))
    params = SamplingParams(prompt="-", num_frames=frames, height=64, width=96)
    request = checkpoint.info.resolve(params)
    sizes = {"tile_sample_min_num_frames": window}
    asked = settings(vae_config=VaeConfig.model_validate(sizes))
    shown = min(frames, window + 1)
    peak = hunyuan_decoder_peak(checkpoint.configs["vae"], shown, 64 * 96, 4)
    assert decoding(checkpoint, asked, request, "torch", 4) == peak
    mask = MASK_COPIES * tokens**2 * 4
    on_cpu = round(HUNYUAN_ON_CPU * peak)
    assert decoding(checkpoint, asked, request, "torch", 4, on_cpu=True) == on_cpu
    assert decoding(checkpoint, asked, request, "onnxruntime", 4) == on_cpu + mask
    sizes |= {"tile_sample_min_height": 32, "tile_sample_min_width": 32}
    tiled = settings(vae_tiling=True, vae_config=VaeConfig.model_validate(sizes))
    assert decoding(checkpoint, tiled, request, "torch", 4) == hunyuan_decoder_peak(
        checkpoint.configs["vae"], shown, 32 * 32, 4
    )
