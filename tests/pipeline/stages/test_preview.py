"""Previews show what the decoder would, in a file of bounded size and in 1 % of the time."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from models.recipe.scene import render, sample_scene
from pipeline.decoders.decoder import Decoder
from pipeline.decoders.torch_wan import TorchEncoder, TorchEngine
from pipeline.media.previews import MAX_PREVIEW_BYTES, PREVIEW_SIDE, small_webp
from pipeline.stages.preview import MAX_CELLS, PreviewMaker
from tests.conftest import SHAPES

VAE = SHAPES / "vae"
SCENES = 4


class Clock:
    """A clock that advances by ``run_s`` with each run of its decoder, and has 16 channels."""

    channels, frames_per_latent = 16, 4

    def __init__(self, run_s: float) -> None:
        self.now, self.run_s = 100.0, run_s
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self) -> float:
        return self.now

    def runs(self, latent_frames: int) -> int:
        return latent_frames

    def frames(self, latents: np.ndarray, *, as_uint8: bool = False) -> Iterator[np.ndarray]:
        del as_uint8
        self.now += self.run_s
        self.shapes.append(latents.shape)
        for place in range(latents.shape[2]):
            height, width = latents.shape[3] * 8, latents.shape[4] * 8
            yield np.full((4 if place else 1, height, width, 3), float(place), np.float32)

    @property
    def previews(self) -> PreviewMaker:
        return PreviewMaker(Decoder(self), self)


def estimate(frames: int, height: int, width: int) -> np.ndarray:
    return np.zeros((1, 16, frames, height, width), np.float32)


def image(webp: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGB")).astype(np.float32)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((one - other.astype(np.float32)) ** 2).mean()))


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(TorchEngine(VAE, torch.float32, 1))


def encoded(frames: int, side: int) -> list[np.ndarray]:
    """Return latents of a few scenes that the bundled model can make."""
    rng = random.Random(5)
    clips = render([sample_scene(rng) for _ in range(SCENES)], frames, side, side)
    encoder = TorchEncoder(VAE, torch.float32, 1)
    made = []
    for clip in clips:
        pixels = ((clip + 1) / 2).permute(1, 2, 3, 0).numpy()
        chunks = [pixels[:1], *(pixels[at : at + 4] for at in range(1, frames, 4))]
        made.append(np.concatenate(list(encoder.latents(iter(chunks))), axis=2))
    return made


def test_preview_is_the_first_frame_of_the_video(decoder: Decoder) -> None:
    for latents in encoded(1, 64):
        (frame,) = next(decoder.decode(latents)) * 255
        assert psnr(image(PreviewMaker(decoder).make(latents)), frame) > 32


def test_preview_after_a_given_frame_is_near_that_of_the_video(decoder: Decoder) -> None:
    """The decoder does not see the frames between the two."""
    for latents in encoded(17, 64):
        frame = list(decoder.decode(latents))[2][-1] * 255
        shown = image(PreviewMaker(decoder).make(latents[:, :, [0, 2]]))
        assert psnr(shown, frame) > 27
        assert np.corrcoef(shown.ravel(), frame.ravel())[0, 1] > 0.97


def test_preview_of_a_large_video_is_near_the_smaller_frame(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latents of a VAE are not those of a smaller image: what is shown is a likeness."""
    monkeypatch.setattr("pipeline.stages.preview.MAX_CELLS", 8)
    for latents in encoded(1, 128):
        (frame,) = next(decoder.decode(latents)) * 255
        smaller = frame.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        shown = image(PreviewMaker(decoder).make(latents))
        assert shown.shape == (64, 64, 3)
        assert np.corrcoef(shown.ravel(), smaller.ravel())[0, 1] > 0.85


def test_preview_shows_the_last_frame_of_the_estimate() -> None:
    assert image(Clock(1).previews.make(estimate(2, 4, 4))).min() > 250
    assert image(Clock(1).previews.make(estimate(1, 4, 4))).max() < 5


@pytest.mark.parametrize(
    ("cells", "decoded"),
    [((8, 8), (8, 8)), ((90, 160), (18, 32)), ((44, 80), (14, 26)), ((1, 70), (1, 70))],
)
def test_few_cells_are_decoded(cells: tuple[int, int], decoded: tuple[int, int]) -> None:
    clock = Clock(1)
    shown = image(clock.previews.make(estimate(1, *cells)))
    assert clock.shapes == [(1, 16, 1, *decoded)]
    assert max(shown.shape) <= PREVIEW_SIDE == 8 * MAX_CELLS


def test_previews_take_a_hundredth_of_the_time() -> None:
    """The first one, which warms the engine up, does not count."""
    clock = Clock(0.5)
    previews = clock.previews
    previews.make(estimate(1, 4, 4))
    assert previews.due
    previews.make(estimate(1, 4, 4))
    ended = clock.now
    clock.now = ended + 49.4
    assert not previews.due
    clock.now = ended + 49.6
    assert previews.due


def test_failed_preview_is_not_tried_again_at_once() -> None:
    clock = Clock(0.5)
    previews = clock.previews
    previews.make(estimate(1, 4, 4))
    with pytest.raises(ValueError, match="latents must be"):
        previews.make(estimate(1, 4, 4)[:, :3])
    clock.now += 0.01
    assert previews.due, "it took no time"


@pytest.mark.parametrize("side", [64, 256])
def test_file_of_noise_is_small(side: int) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    assert len(small_webp(noise)) <= MAX_PREVIEW_BYTES
