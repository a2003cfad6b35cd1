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
from pipeline.memory.plan import HOST, plan_of
from pipeline.memory.working import decoding, denoising
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
        places = [
            need.place
            for need in plan.needs
            if need.part.startswith("dit rank ") and need.what == "weights"
        ]
        on_gpus = [f"GPU {rank}" for rank in range(ranks)]
        assert places == (on_gpus if capacity.gpus else [HOST] * ranks)
        sizes = {need.size for need in plan.needs if need.what == "activations"}
        assert sizes == {denoising(checkpoint, request, ulysses * ring, 4)}, (
            "a branch's ranks share its tokens only"
        )


def test_branches_of_guidance_need_one_gpu_each() -> None:
    checkpoint = Checkpoint.open(SHAPES)
    request = checkpoint.info.resolve(SamplingParams(prompt="-"))
    asked = settings(guidance_branches=2)
    with pytest.raises(InputError, match="2 ranks need a GPU each, and there are 1 here"):
        fitted(checkpoint, asked, request, Capacity(1 << 40, (1 << 40,)))
    assert fitted(checkpoint, asked, request, GPUS)[0] is asked


@pytest.mark.parametrize(
    ("config", "frames", "height", "width"),
    [
        ({"tile_sample_min_num_frames": 16}, 17, 64, 96),
        ({"tile_sample_min_num_frames": 16}, 9, 64, 96),
        ({"tile_sample_min_num_frames": 8}, 17, 64, 96),
    ],
)
@pytest.mark.parametrize(("engine", "precision", "itemsize"), [
    ("tile", "fp32", 4), ("tile", "bf16", 4), ("torch", "fp32", 4), ("torch", "bf16", 2),
])  # fmt: skip
def test_hunyuan_video_decodes_one_window_at_a_time(
    build_family: Callable[[str], Path],
    config: dict[str, int], frames: int, height: int, width: int,
    engine: str, precision: str, itemsize: int,
) -> None:  # fmt: skip
    """The memory is that of a convolution's input and output in the last level, for one window."""
    checkpoint = Checkpoint.open(build_family("hunyuan-video"))
    params = SamplingParams(prompt="-", num_frames=frames, height=height, width=width)
    request = checkpoint.info.resolve(params)
    channels = checkpoint.configs["vae"]["block_out_channels"][0]
    window = min(frames, config["tile_sample_min_num_frames"] + 1)
    asked = settings(
        vae_engine=engine, vae_precision=precision, vae_config=VaeConfig.model_validate(config)
    )
    expected = 2 * channels * window * height * width * itemsize
    assert decoding(checkpoint, request, asked) == expected
    tiled = asked.model_copy(
        update={
            "vae_tiling": True,
            "vae_config": VaeConfig.model_validate(
                {**config, "tile_sample_min_height": 32, "tile_sample_min_width": 32}
            ),
        }
    )
    assert decoding(checkpoint, request, tiled) * height * width == expected * 32 * 32
