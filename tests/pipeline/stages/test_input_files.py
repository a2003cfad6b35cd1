"""The stages before and after ``dit`` with images and videos, without their models."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.checkpoint.folder import Checkpoint
from pipeline.decoders.clip import chunks
from pipeline.errors import CancelledError, InputError
from pipeline.families import Inputs, ModelInfo, SamplingParams, VideoRequest
from pipeline.media.input_video import frames_of, probe
from pipeline.media.mp4 import Mp4Writer
from pipeline.settings import StageSettings
from pipeline.stages import vae_decoder
from pipeline.stages.tokenizer import TokenizedRequest, TokenizerStage
from pipeline.stages.vae_decoder import VaeDecoderStage
from tests.conftest import SHAPES

LEVELS = np.linspace(0, 240, 14).astype(np.uint8)
SIZE = (64, 64)
# A model of the bundled one's sizes, with every input.
INFO = Checkpoint.open(SHAPES).info.model_copy(
    update={
        "family": "wan2.2-ti2v",
        "image": "optional",
        "last_frame": "optional",
        "edits": True,
        "extends": True,
    }
)


@pytest.fixture(scope="module")
def source() -> bytes:
    """An MP4 of 14 frames of rising grey."""
    with Mp4Writer(*SIZE, 8) as writer:
        writer.add(np.stack([np.full((64, 64, 3), level, np.uint8) for level in LEVELS]))
        return writer.finish()


def png(level: int, size: tuple[int, int] = (20, 20)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, (level,) * 3).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def tokenize(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., TokenizedRequest]:
    folder = tmp_path_factory.mktemp("tokenizer")
    shutil.copyfile(SHAPES / "tokenizer/tokenizer.json", folder / "tokenizer.json")
    INFO.save(folder)
    stage = TokenizerStage(folder)

    def run(inputs: Inputs, **values: object) -> TokenizedRequest:
        return stage.run({"prompt": "p", **values}, return_frames=False, inputs=inputs)

    return run


def test_an_edit_hands_its_file_on(
    tokenize: Callable[..., TokenizedRequest], source: bytes
) -> None:
    made = tokenize(Inputs(video=source), strength=0.5)
    assert made.tensors["SOURCE"].tolist() == [source]
    assert "IMAGE" not in made.tensors
    assert made.request.num_frames == 13


def test_an_extension_begins_with_the_last_frames_of_its_file(
    tokenize: Callable[..., TokenizedRequest], source: bytes
) -> None:
    made = tokenize(Inputs(video=source), num_frames=9)
    assert made.request.prefix_frames == 9
    expected = np.stack(list(frames_of(source, 5, 14)))
    np.testing.assert_array_equal(made.tensors["IMAGE"], expected)
    assert made.tensors["SOURCE"].tolist() == [source]


def test_a_last_frame_is_stretched_like_the_first(
    tokenize: Callable[..., TokenizedRequest],
) -> None:
    made = tokenize(Inputs(image=png(10), last_frame=png(200)), width=64, height=64)
    assert made.tensors["LAST_IMAGE"].shape == made.tensors["IMAGE"].shape == (1, 64, 64, 3)
    assert (made.tensors["IMAGE"].max(), made.tensors["LAST_IMAGE"].min()) == (10, 200)
    assert made.request.last_frame


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (Inputs(last_frame=b"rubbish"), r"^last_frame: not a PNG, JPEG or WebP image"),
        (Inputs(image=b"rubbish"), r"^input_reference: not a PNG, JPEG or WebP image"),
        (Inputs(video=b"rubbish"), r"^input_video: not an MP4 or WebM video"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_named(
    tokenize: Callable[..., TokenizedRequest], inputs: Inputs, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tokenize(inputs)


def test_the_clip_of_two_images_is_grey_between_them() -> None:
    white = np.full((1, 2, 2, 3), 255, np.uint8)
    arrays = {"IMAGE": white, "LAST_IMAGE": np.zeros_like(white)}
    made = list(chunks(arrays, 9, (0, 0)))
    assert [each.shape for each in made] == [(1, 2, 2, 3), (4, 2, 2, 3), (4, 2, 2, 3)]
    assert np.concatenate(made)[:, 0, 0, 0].tolist() == [1, *[0.5] * 7, 0]


def test_the_clip_of_a_video_is_resized_and_cut_to_its_length(source: bytes) -> None:
    made = np.concatenate(list(chunks({"SOURCE": np.frombuffer(source, np.uint8)}, 13, (32, 16))))
    assert (made.shape, made.dtype) == ((13, 16, 32, 3), np.float32)
    np.testing.assert_allclose(made[:, 0, 0, 0] * 255, LEVELS[:13], atol=3)


class Grey:
    """A decoder whose frames are 1, then 4 for each latent frame, of the level of their number."""

    def decode(
        self, latents: np.ndarray, before_run: Callable[[int, int], None], *, as_uint8: bool
    ) -> Generator[np.ndarray]:
        assert as_uint8
        total, shown = latents.shape[2], 0
        for run in range(total):
            before_run(run, total)
            numbers = range(shown, shown + (4 if run else 1))
            shown = numbers[-1] + 1
            yield np.stack([np.full((64, 64, 3), number, np.uint8) for number in numbers])


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> VaeDecoderStage:
    monkeypatch.setattr(vae_decoder, "open_decoder", lambda *_: Grey())
    return VaeDecoderStage(tmp_path, StageSettings(checkpoint="unused"))


def extension(source: bytes, num_frames: int) -> VideoRequest:
    params = SamplingParams(prompt="p", num_frames=num_frames)
    return ModelInfo.resolve(INFO, params, video=probe(source), return_frames=True)


@pytest.mark.parametrize(("num_frames", "prefix"), [(9, 9), (13, 5), (17, 1)])
def test_the_result_is_the_source_and_the_frames_after_the_prefix(
    decoder: VaeDecoderStage, source: bytes, num_frames: int, prefix: int
) -> None:
    request, runs = extension(source, num_frames), list[tuple[int, int]]()
    latents = np.zeros((1, 16, (request.num_frames - 1) // 4 + 1, 8, 8), np.float32)
    made = decoder.run(request, latents, lambda *run: runs.append(run), source)
    assert made.frames is not None
    np.testing.assert_array_equal(made.frames[:14], np.stack(list(frames_of(source))))
    new = made.frames[14:, 0, 0, 0].tolist()
    assert new == list(range(prefix, prefix + num_frames - 1))
    assert probe(made.mp4).num_frames == 14 + num_frames - 1
    assert runs[0] == (0, 5)
    assert runs[-1] == (5, 5)


def test_cancel_stops_within_a_long_source(
    decoder: VaeDecoderStage, source: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vae_decoder, "AT_ONCE", 4)
    calls = 0

    def stop(_run: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:  # three runs up to the first new frame, then eight of the source
            raise CancelledError("cancelled")

    with pytest.raises(CancelledError):
        decoder.run(extension(source, 9), np.zeros((1, 16, 5, 8, 8), np.float32), stop, source)
    assert calls == 5


def test_repositories_rendered_before_pass_an_image(tmp_path: Path) -> None:
    """Their adapters are copies in the repository, and call the stage as they always did."""
    shutil.copyfile(SHAPES / "tokenizer/tokenizer.json", tmp_path / "tokenizer.json")
    INFO.save(tmp_path)
    values: dict[str, object] = {"prompt": "p", "width": 64, "height": 64}
    made = TokenizerStage(tmp_path).run(values, return_frames=False, image_file=png(7))
    assert made.tensors["IMAGE"].max() == 7
