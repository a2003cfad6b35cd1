"""What a video decides of an edit or an extension, and what a model refuses."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.families import Clip, ModelInfo, SamplingParams, VideoRequest
from pipeline.families.inputs import Extension
from tests.pipeline.families.test_model import INFO

ALL = INFO.model_copy(update={"image": "optional", "edits": True, "extends": True})
CLIP = Clip(96, 64, 18, 8)


def resolve(info: ModelInfo = ALL, clip: Clip | None = CLIP, **values: Any) -> VideoRequest:
    files = {name: values.pop(name) for name in ("image", "last_frame") if name in values}
    return info.resolve(SamplingParams(prompt="x", **values), video=clip, **files)


def refused(field: str, message: str, **values: Any) -> None:
    with pytest.raises(InputError) as caught:
        resolve(**values)
    assert caught.value.field == field
    assert message in str(caught.value)


def test_an_edit_has_the_size_the_length_and_the_fps_of_its_video() -> None:
    made = resolve(strength=0.5)
    assert (made.width, made.height, made.num_frames, made.fps) == (96, 64, 17, 8)
    assert (made.total_frames, made.source_frames, made.strength) == (17, 0, 0.5)


@pytest.mark.parametrize(
    ("strength", "steps", "first"), [(1, 20, 0), (0.5, 20, 10), (0.34, 20, 14), (0.05, 20, 19)]
)
def test_an_edit_begins_at_the_step_of_diffusers(strength: float, steps: int, first: int) -> None:
    assert resolve(strength=strength, num_inference_steps=steps).first_step == first


def test_other_requests_begin_at_the_first_step() -> None:
    assert resolve().first_step == resolve(clip=None).first_step == 0


@pytest.mark.parametrize(
    ("asked", "source", "prefix", "new"),
    [
        (None, 18, 3, 2),  # 5 latent frames are native
        (None, 8, 2, 3),
        (None, 4, 1, 4),
        (5, 18, 3, 1),
        (9, 18, 3, 2),
        (13, 18, 2, 3),
        (17, 18, 1, 4),
        (33, 18, 1, 8),  # longer than native
    ],
)
def test_prefix_and_new_frames_fit_the_native_length(
    asked: int | None, source: int, prefix: int, new: int
) -> None:
    assert Extension.of(source, asked, 17, 4, 3) == Extension(prefix, new)
    made = resolve(clip=Clip(96, 64, source, 8), num_frames=asked)
    assert made.prefix_frames == 4 * (prefix - 1) + 1
    assert made.num_frames == made.prefix_frames + 4 * new
    assert made.total_frames == source + 4 * new


def test_a_model_with_images_in_its_channels_sees_the_last_frame_only() -> None:
    info = INFO.model_copy(update={"image": "required", "extends": True})
    made = resolve(info)
    assert (made.prefix_frames, made.num_frames, made.total_frames) == (1, 17, 34)


@pytest.mark.parametrize("values", [{}, {"num_frames": 13}, {"strength": 0.7}])
def test_the_parameters_of_a_request_make_it_again(values: dict[str, Any]) -> None:
    made = resolve(seed=3, **values)
    again = ALL.resolve(SamplingParams(prompt="x", **made.sampling()), video=CLIP)
    assert again == made


@pytest.mark.parametrize(
    ("clip", "size"),
    [
        (Clip(96, 64, 5, 8), (96, 64)),
        (Clip(192, 128, 5, 8), (192, 128)),  # larger than the native size
        (Clip(100, 70, 5, 8), (80, 64)),
        (Clip(1920, 1080, 5, 8), (96, 48)),  # larger than the model can: as many pixels as native
        (Clip(20, 10, 5, 8), (16, 16)),
    ],
)
def test_a_size_that_fits_is_kept_and_others_become_smaller(
    clip: Clip, size: tuple[int, int]
) -> None:
    made = resolve(clip=clip, strength=0.5)
    assert (made.width, made.height) == size
    assert resolve(clip=clip, width=size[0], height=size[1]).width == size[0]


@pytest.mark.parametrize(
    ("field", "message", "values"),
    [
        ("width", "80 is not valid; it must be that of input_video, 96", {"width": 80}),
        ("fps", "9 is not valid; it must be that of input_video, 8", {"fps": 9}),
        ("num_frames", "13 is not valid; it must be that", {"num_frames": 13, "strength": 0.5}),
        ("num_frames", "1 adds no frame to input_video; it must be at least 5", {"num_frames": 1}),
        ("num_frames", "8 is not valid; it must be 4k+1", {"num_frames": 8}),
        ("strength", "0.04 of 20 steps leaves none; it must be at least 0.05", {"strength": 0.04}),
        ("strength", "requires input_video", {"strength": 0.5, "clip": None}),
        ("input_reference", "the video begins with input_video", {"image": (9, 9)}),
        ("input_reference", "an edit takes no image", {"image": (9, 9), "strength": 0.5}),
        ("last_frame", "makes no video that ends with an image", {"last_frame": True}),
        ("last_frame", "keeps the length", {"last_frame": True, "strength": 0.5}),
        ("input_video", "edits at most 257", {"clip": Clip(96, 64, 262, 8), "strength": 0.5}),
    ],
)
def test_what_cannot_be_done_is_refused(field: str, message: str, values: dict[str, Any]) -> None:
    refused(field, message, **values)


@pytest.mark.parametrize(
    ("can", "values", "message"),
    [
        ({}, {}, "extends no videos"),
        ({}, {"strength": 0.5}, "edits no videos"),
        ({"extends": True}, {"strength": 0.5}, "it extends them: leave strength out"),
        ({"edits": True}, {}, "it edits them: set strength"),
    ],
)
def test_a_model_names_what_it_can_do(
    can: dict[str, bool], values: dict[str, Any], message: str
) -> None:
    refused("input_video", message, info=INFO.model_copy(update=can), **values)


def test_a_required_last_frame_is_asked_for() -> None:
    info = INFO.model_copy(update={"last_frame": "required", "image": "required"})
    refused("last_frame", "between two images", info=info, clip=None, image=(9, 9))
    assert resolve(info, None, image=(9, 9), last_frame=True).last_frame


def test_limits_of_the_server_count_what_the_model_makes() -> None:
    bounded = ALL.model_copy(update={"bounds": ALL.bounds.model_copy(update={"max_frames": 17})})
    assert resolve(bounded, Clip(96, 64, 200, 8)).total_frames == 208
    refused("num_frames", "at most 17", info=bounded, num_frames=21)


def test_descriptions_of_older_versions_can_do_none_of_it() -> None:
    old = INFO.model_dump(exclude={"edits", "extends", "last_frame"})
    read = ModelInfo.model_validate(old)
    assert (read.edits, read.extends, read.last_frame) == (False, False, "refused")


def test_a_native_length_of_an_even_number_of_latent_frames() -> None:
    assert Extension.of(18, None, 21, 4, 3) == Extension(3, 3)
    assert Extension.of(18, 17, 21, 4, 3) == Extension(2, 4)
