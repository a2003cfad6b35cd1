"""Every engine validates its latents, can be stopped, and leaves no file of tiles behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.decoders import Decoder, Tiling, frames_to_uint8

CHANNELS, CELL = 3, 2


class Enlarged:
    """An engine that enlarges each latent cell to a square of pixels. Every frame but the first
    appears twice.
    """

    channels, frames_per_latent = CHANNELS, 2

    def runs(self, latent_frames: int) -> int:
        return latent_frames

    def frames(self, latents: np.ndarray, *, as_uint8: bool = False) -> Iterator[np.ndarray]:
        del as_uint8
        pixels = latents[0].transpose(1, 2, 3, 0).repeat(CELL, axis=1).repeat(CELL, axis=2)
        for index, frame in enumerate(pixels):
            yield np.stack([frame] * (2 if index else 1))


class StopError(Exception):
    pass


TILING = Tiling(6, 8, 4, 6, cell=CELL)
WHOLE, TILED = Decoder(Enlarged()), Decoder(Enlarged(), TILING)
SIDE_BY_SIDE = Decoder(Enlarged(), TILING, more=[Enlarged(), Enlarged()])


def clip(*size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 1.5, (1, CHANNELS, *size)).astype(np.float32)


@pytest.mark.parametrize("decoder", [WHOLE, TILED, SIDE_BY_SIDE])
@pytest.mark.parametrize("size", [(1, 2, 3), (3, 7, 9), (2, 3, 11), (4, 9, 1)])
def test_frames_are_in_order_and_clipped_to_0_1(
    decoder: Decoder, size: tuple[int, int, int]
) -> None:
    latents = clip(*size)
    expected = np.concatenate(list(Enlarged().frames(latents))).clip(0, 1)

    chunks = list(decoder.decode(latents))

    assert [len(chunk) for chunk in chunks] == [1, *[2] * (size[0] - 1)]
    np.testing.assert_allclose(np.concatenate(chunks), expected, atol=1e-6)


@pytest.mark.parametrize("decoder", [WHOLE, TILED])
@pytest.mark.parametrize(
    "shape", [(CHANNELS, 2, 1, 1), (1, 4, 2, 1, 1), (2, CHANNELS, 2, 1, 1), (1, CHANNELS, 0, 1, 1)]
)
def test_wrong_shapes_are_refused_before_the_first_run(
    decoder: Decoder, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"latents must be \[1, 3, T, h, w\]"):
        decoder.decode(np.zeros(shape, np.float32))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_wrong_dtypes_are_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match=f"float32, not {np.dtype(dtype)}"):
        WHOLE.decode(np.zeros((1, CHANNELS, 1, 1, 1), dtype))


@pytest.mark.parametrize(
    ("decoder", "total"), [(WHOLE, 3), (TILED, 3 * 4 * 3), (SIDE_BY_SIDE, 3 * 4 * 3)]
)
def test_every_run_is_announced_and_can_be_stopped(decoder: Decoder, total: int) -> None:
    before = open_files()
    runs: list[tuple[int, int]] = []

    def stop_at(last: int) -> Iterator[np.ndarray]:
        def before_run(run: int, of: int) -> None:
            runs.append((run, of))
            if run == last:
                raise StopError

        return decoder.decode(clip(3, 7, 9), before_run)

    list(stop_at(-1))
    assert runs == [(run, total) for run in range(total)]

    runs.clear()
    with pytest.raises(StopError):
        list(stop_at(1))
    assert runs == [(0, total), (1, total)]
    assert open_files() == before


def test_tiles_are_spooled_to_an_unnamed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = open_files()
    chunks = TILED.decode(clip(3, 7, 9))
    next(chunks)
    assert len(open_files()) == len(before) + 1
    assert list(tmp_path.iterdir()) == []
    chunks.close()
    assert open_files() == before


def open_files() -> list[str]:
    """Return the open files of this process that are on a disk, named or unnamed."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_file()]
    return sorted(str(link.readlink()) for link in links)


def test_frames_to_uint8_clips_and_rounds_halves_up() -> None:
    frames = np.array(
        [-0.1, 0, 0.49 / 255, 0.5 / 255, 254.4 / 255, 254.6 / 255, 1, 1.1], np.float32
    )
    before = frames.copy()

    assert frames_to_uint8(frames).tolist() == [0, 0, 0, 1, 254, 255, 255, 255]
    np.testing.assert_array_equal(frames, before)
