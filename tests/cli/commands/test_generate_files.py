"""`generate` with images and videos: what is sent, and what is refused before anything starts."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.families import Inputs
from pipeline.media.mp4 import Mp4Writer


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "picture.png"
    Image.new("RGB", (20, 10), "red").save(file)
    return file


@pytest.fixture
def clip(tmp_path):
    file = tmp_path / "clip.mp4"
    with Mp4Writer(64, 64, 8) as writer:
        writer.add(np.zeros((9, 64, 64, 3), np.uint8))
        file.write_bytes(writer.finish())
    return file


def test_files_are_sent_unchanged_to_a_running_triton(call, backend, picture, clip):
    two = ("--input-reference", picture, "--last-frame", picture)
    assert call(*two, url="gpu:8001").code == 0
    assert Inputs(picture.read_bytes(), picture.read_bytes()) in backend.log
    assert call("--extend", clip, url="gpu:8001").code == 0
    assert Inputs(video=clip.read_bytes()) in backend.log


def test_an_edit_is_sent_with_its_strength(call, backend, clip):
    assert call("--input-video", clip, "--strength", "0.5", url="gpu:8001").code == 0
    (params,) = [entry for entry in backend.log if hasattr(entry, "strength")]
    assert params.strength == 0.5
    assert Inputs(video=clip.read_bytes()) in backend.log


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--input-video", "CLIP"), "strength: required with --input-video"),
        (("--strength", "0.5"), "strength: requires --input-video"),
        (("--extend", "CLIP", "--strength", "0.5"), "strength: requires --input-video"),
        (("--extend", "CLIP", "--input-video", "CLIP"), "extend: not valid with --input-video"),
        (("--extend", "absent.mp4"), "extend: absent.mp4 cannot be read: No such file"),
        (("--extend", "PICTURE"), "input_video: not an MP4 or WebM video"),
        (("--last-frame", "CLIP"), "last_frame: not a PNG, JPEG or WebP image"),
        (("--input-video", "CLIP", "--strength", "2"), "strength"),
    ],
)
def test_files_that_cannot_be_used_are_refused_early(call, backend, picture, clip, flags, message):
    files = {"CLIP": clip, "PICTURE": picture}
    done = call(*(files.get(flag, flag) for flag in flags), url="gpu:8001")
    assert (done.code, backend.log) == (2, [])
    assert message in done.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--extend", "CLIP"), "input_video: not supported; the model 'tiny' extends no videos"),
        (("--last-frame", "PICTURE"), "last_frame: not supported; the model 'tiny' makes no"),
    ],
)
def test_a_model_that_cannot_do_it_refuses_before_it_is_started(
    call, backend, picture, clip, flags, message
):
    files = {"CLIP": clip, "PICTURE": picture}
    done = call(*(files.get(flag, flag) for flag in flags))
    assert (done.code, backend.log) == (2, [])
    assert message in done.err
