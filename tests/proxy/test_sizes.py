"""The size of a video from the fields that describe it, for models of the published families."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pipeline.families import FAMILIES, Bounds, ModelInfo, SamplingParams
from pipeline.families.bounds import CPU, GPU
from proxy.errors import ApiError
from proxy.fields import CreateVideo
from proxy.sizes import LISTED, asked_size, fitting_size, settled_size

STEPS = {"wan2.2-ti2v": 32}  # pixels that sides are multiples of


def model(family: str = "wan2.1-t2v", **changes: Any) -> ModelInfo:
    found = FAMILIES[family]
    step = STEPS.get(family, 16)
    return ModelInfo(
        name=family, family=family, defaults=found.defaults, max_side=found.max_side,
        max_frames=found.max_frames, max_steps=found.max_steps, latent_channels=16,
        spatial_compression=step // 2, temporal_compression=4, patch_size=2, text_dim=4096,
    ).model_copy(update=changes)  # fmt: skip


def size(info: ModelInfo, policy: Any = None, **fields: Any) -> str | None:
    """Return the size of a request with these fields, as "WxH"."""
    asked = asked_size(CreateVideo(prompt="x", **fields), info)
    if asked is None:
        return None
    width, height = settled_size(asked, info, SamplingParams(prompt="x"), policy)
    return f"{width}x{height}"


@pytest.mark.parametrize(
    ("family", "bounds", "asked", "made"),
    [
        # The model can make it: nothing changes, whatever its default size is.
        ("wan2.1-t2v", GPU, "1280x720", "1280x720"),
        ("wan2.2-t2v", GPU, "720x1280", "720x1280"),
        # 720 is no multiple of 32: the size that this model was trained for.
        ("wan2.2-ti2v", GPU, "1280x720", "1280x704"),
        ("wan2.2-ti2v", GPU, "720x1280", "704x1280"),
        # The model or the limits forbid it: the default size, which has this aspect ratio.
        ("wan2.1-t2v", GPU, "1792x1024", "832x480"),
        ("wan2.1-t2v", Bounds(), "1024x1792", "480x832"),
        ("wan2.2-t2v", GPU, "1024x1792", "720x1280"),
        ("wan2.1-t2v", Bounds(max_pixels=400_000), "1280x720", "832x480"),
        ("wan2.1-t2v", Bounds(max_pixels=400_000), "720x1280", "480x832"),
        # The limits forbid that too: smaller, with the aspect ratio.
        ("wan2.1-t2v", Bounds(max_pixels=100_000), "1280x720", "416x224"),
        ("wan2.1-t2v", CPU, "1280x720", "288x160"),
    ],
)
def test_size_of_openai_is_made_or_replaced(
    family: str, bounds: Bounds, asked: str, made: str
) -> None:
    info = model(family, bounds=bounds)
    assert size(info, size=asked) == made
    width, height = map(int, made.split("x"))
    assert info.resolve(SamplingParams(prompt="x", width=width, height=height)).width == width


@pytest.mark.parametrize("asked", ["1000x1000", "1920x1080", "1281x720", "65x63", "1x1"])
def test_other_size_is_left_for_the_model_to_refuse(asked: str) -> None:
    assert size(model(bounds=GPU), size=asked) == asked


def test_strict_policy_replaces_no_size() -> None:
    info = model(bounds=Bounds(max_pixels=400_000))
    for width, height in LISTED:
        assert size(info, "strict", size=f"{width}x{height}") == f"{width}x{height}"


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ("1000x1000", "1008x1008"),
        ("1290x730", "1280x736"),
        ("840x480", "832x480"),
        ("853x480", "832x480"),
        ("1920x1080", "832x480"),
        ("99999x99999", "624x624"),
        ("1x1", "16x16"),
        ("4000x10", "1280x16"),
    ],
)
def test_nearest_policy_takes_any_size(asked: str, made: str) -> None:
    assert size(model(bounds=GPU), "nearest", size=asked) == made


def test_every_size_of_the_nearest_policy_can_be_made() -> None:
    sides = (1, 15, 16, 63, 480, 721, 1280, 4096, 50_000)
    for family, bounds in itertools.product(("wan2.1-t2v", "wan2.2-ti2v"), (GPU, CPU, Bounds())):
        info = model(family, bounds=bounds)
        for width, height in itertools.product(sides, sides):
            if not 1 / 32 <= width / height <= 32:
                continue
            found = fitting_size((width, height), info, SamplingParams(prompt="x"), far=True)
            assert found is not None
            info.resolve(SamplingParams(prompt="x", width=found[0], height=found[1]))


@pytest.mark.parametrize(
    ("ratio", "resolution", "made"),
    [
        ("16:9", "480p", "832x480"),
        ("9:16", "480P", "480x832"),
        ("16:9", "720p", "1280x720"),
        ("9:16", "720p", "720x1280"),
        ("1:1", "720p", "720x720"),
        ("4:3", "480p", "640x480"),
        ("21:9", "480p", "1120x480"),
        ("16:9", None, "832x480"),
        ("9:16", None, "480x832"),
        ("1:1", None, "640x640"),
        ("auto", "480p", "832x480"),
        (None, "480p", "832x480"),
        (None, "720p", "1280x720"),
        ("16:9", "auto", "832x480"),
        ("auto", "auto", None),
        # Beyond the limits: refused by the model, unless the policy is nearest.
        ("16:9", "1080p", "1920x1088"),
    ],
)
def test_aspect_ratio_and_resolution(ratio: str, resolution: str, made: str | None) -> None:
    info = model(bounds=GPU)
    assert size(info, aspect_ratio=ratio, resolution=resolution) == made
    if made == "1920x1088":
        assert size(info, "nearest", aspect_ratio=ratio, resolution=resolution) == "832x480"


@pytest.mark.parametrize(
    "fields",
    [
        {"size": "1280x720", "aspect_ratio": "16:9", "resolution": "720p"},
        {"size": "1280X720", "width": 1280},
        {"size": "1280x720", "width": 1280, "height": 720},
        {"width": 1280, "height": 720, "aspect_ratio": "16:9"},
        {"size": "auto", "width": 1280, "height": 720},
    ],
)
def test_fields_that_agree_are_one_size(fields: dict[str, Any]) -> None:
    assert size(model(bounds=GPU), **fields) == "1280x720"


@pytest.mark.parametrize(
    ("fields", "param", "other"),
    [
        ({"size": "1280x720", "width": 720}, "size", "width"),
        ({"size": "1280x720", "height": 480}, "size", "height"),
        ({"size": "1280x720", "aspect_ratio": "9:16"}, "aspect_ratio", "1280x720"),
        ({"size": "1280x720", "resolution": "480p"}, "resolution", "1280x720"),
        ({"width": 64, "height": 64, "aspect_ratio": "9:16"}, "aspect_ratio", "64x64"),
        ({"width": 64, "aspect_ratio": "9:16"}, "aspect_ratio", "width"),
        ({"height": 64, "resolution": "480p"}, "resolution", "height"),
    ],
)
def test_fields_that_disagree_are_named(fields: dict[str, Any], param: str, other: str) -> None:
    with pytest.raises(ApiError) as caught:
        size(model(), **fields)
    error = caught.value.body["error"]
    assert isinstance(error, dict)
    assert error["param"] == param
    assert other in error["message"]


@pytest.mark.parametrize("fields", [{}, {"size": "auto"}, {"width": 64}, {"height": 64}])
def test_no_size_leaves_it_to_the_model(fields: dict[str, Any]) -> None:
    assert size(model(), **fields) is None
