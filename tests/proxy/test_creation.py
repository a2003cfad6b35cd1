"""Fields of guidance that are accepted only where they ask for what happens anyway."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.creation import create_params
from proxy.errors import ApiError
from proxy.fields import CreateVideo
from proxy.request_files import RequestFiles
from proxy.settings import RequestSettings
from proxy.spellings import Body
from tests.proxy.test_sizes import model

EXPERTS = {"boundary_ratio": 0.875}


def made(family: str, changes: dict[str, Any], **fields: Any) -> float | None:
    """Return the guidance scale of the video that a request with these fields makes."""
    request = CreateVideo(prompt="x", **fields)
    info = model(family, **changes)
    params = create_params(request, Body(), info, RequestFiles(), RequestSettings())
    return params.guidance_scale


@pytest.mark.parametrize(
    ("family", "changes", "fields"),
    [
        ("wan2.2-t2v", EXPERTS, {"boundary_ratio": 0.875}),
        ("wan2.1-t2v", {}, {"true_cfg_scale": 5.0}),
        ("wan2.1-t2v", {}, {"true_cfg_scale": 3.0, "guidance_scale": 3}),
        ("hunyuan-video", {}, {"true_cfg_scale": 1}),
        ("hunyuan-video", {}, {"true_cfg_scale": 0, "guidance_scale": 6}),
    ],
)
def test_value_of_the_model_is_accepted(
    family: str, changes: dict[str, Any], fields: dict[str, Any]
) -> None:
    without = {name: value for name, value in fields.items() if name == "guidance_scale"}
    assert made(family, changes, **fields) == made(family, changes, **without)


@pytest.mark.parametrize(
    ("family", "changes", "fields", "says"),
    [
        ("wan2.2-t2v", EXPERTS, {"boundary_ratio": 0.9}, "the checkpoint's is 0.875"),
        ("wan2.2-t2v", {}, {"boundary_ratio": 0.875}, "cannot be set"),
        ("wan2.1-t2v", {}, {"boundary_ratio": 0.875}, "cannot be set"),
        ("wan2.1-t2v", {}, {"true_cfg_scale": 4.0}, "which is 5"),
        ("wan2.1-t2v", {}, {"true_cfg_scale": 5.0, "guidance_scale": 3}, "which is 3"),
        ("hunyuan-video", {}, {"true_cfg_scale": 1.1}, "built in"),
    ],
)
def test_other_value_is_refused_with_the_reason(
    family: str, changes: dict[str, Any], fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(ApiError, match=says) as caught:
        made(family, changes, **fields)
    error = caught.value.body["error"]
    assert isinstance(error, dict)
    assert error["param"] == next(name for name in fields if name != "guidance_scale")


def test_seed_of_minus_one_is_a_random_seed() -> None:
    info, request = model(), CreateVideo(prompt="x", seed=-1)
    seeds = {
        create_params(request, Body(), info, RequestFiles(), RequestSettings()).seed
        for _ in range(8)
    }
    assert len(seeds) > 1
    assert all(seed is not None and seed >= 0 for seed in seeds)
