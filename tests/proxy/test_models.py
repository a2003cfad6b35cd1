"""`GET /v1/models` describes exactly what a create request may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.families import Bounds, ModelInfo, SamplingParams
from proxy.models import ModelVideo
from tests.proxy.conftest import Opener

BOUNDS = Bounds(max_pixels=64 * 64, max_frames=30, max_steps=40)


def accepts(info: ModelInfo, **values: Any) -> bool:
    try:
        info.resolve(SamplingParams(prompt="x", **values))
    except InputError:
        return False
    return True


def sides(size: str) -> dict[str, int]:
    width, height = map(int, size.split("x"))
    return {"width": width, "height": height}


@pytest.mark.parametrize("bounds", [Bounds(), BOUNDS, Bounds(max_pixels=0, max_cost=10**9)])
def test_described_limits_are_those_of_a_request(info: ModelInfo, bounds: Bounds) -> None:
    info = info.bounded(bounds)
    video = ModelVideo.of(info)
    assert all(accepts(info, **sides(size)) for size in video.sizes)
    assert video.sizes[0] == video.size
    assert accepts(info, num_frames=video.max_frames)
    assert not accepts(info, num_frames=video.max_frames + video.frame_step)
    assert accepts(info, num_inference_steps=video.max_steps)
    assert not accepts(info, num_inference_steps=video.max_steps + 1)
    one = {"num_frames": 1, "num_inference_steps": 1, "height": video.size_multiple}
    assert accepts(info, width=video.size_multiple, **one)
    assert not accepts(info, width=video.size_multiple // 2, **one)
    assert not accepts(info, width=video.max_side + video.size_multiple, **one)
    assert accepts(info, width=video.max_side, **one) == (
        video.max_pixels is None or video.max_side * video.size_multiple <= video.max_pixels
    )


def test_sizes_have_usual_aspect_ratios_once_each(info: ModelInfo) -> None:
    defaults = info.defaults.model_copy(update={"width": 832, "height": 480})
    wide = info.model_copy(update={"defaults": defaults})
    assert ModelVideo.of(wide).sizes == [
        "832x480", "480x832", "720x544", "624x624", "544x720",
    ]  # fmt: skip
    small = ModelVideo.of(wide.bounded(Bounds(max_pixels=720 * 540)))
    assert small.sizes == ["832x480", "464x832"], "the default stays"


def test_distilled_model_has_one_number_of_steps(info: ModelInfo) -> None:
    defaults = info.defaults.model_copy(
        update={"denoising_timesteps": (1000, 757, 522), "num_inference_steps": 3}
    )
    video = ModelVideo.of(info.model_copy(update={"defaults": defaults}))
    assert (video.min_steps, video.num_inference_steps, video.max_steps) == (3, 3, 3)


async def test_every_name_is_described_with_the_limits_of_the_server(serve: Opener) -> None:
    async with serve(max_frames=9, served_model_name=("sora-2",)) as api:
        listed = (await api.http.get("/v1/models")).json()["data"]
        assert [model["id"] for model in listed] == ["shapes", "sora-2"]
        for model in listed:
            assert model["video"]["max_frames"] == 9
            assert (await api.http.get(f"/v1/models/{model['id']}")).json() == model
