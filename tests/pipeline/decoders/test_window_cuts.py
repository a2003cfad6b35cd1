"""Temporal windows share latent frames and fade into each other."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.decoders import Windows
from pipeline.errors import InputError


def frames(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1, 1, 1)


def joined(windows: Windows, *decoded: np.ndarray) -> list[float]:
    return np.concatenate(list(windows.join(iter(decoded)))).ravel().tolist()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((2, 4, 4), "vae_config.tile_sample_min_num_frames: 2 should be a multiple of 4"),
        ((0, 4, 4), "vae_config.tile_sample_min_num_frames: 0 should be a multiple of 4"),
        ((8, 6, 4), "vae_config.tile_sample_stride_num_frames: 6 should be a multiple of 4"),
        ((8, 0, 4), "vae_config.tile_sample_stride_num_frames: 0 should be a multiple of 4"),
        ((4, 8, 4), "vae_config.tile_sample_stride_num_frames: 8 leaves gaps between windows of 4"),
    ],
)
def test_sizes_that_leave_gaps_are_refused(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Windows(*sizes)
    assert str(caught.value) == message


@pytest.mark.parametrize("sizes", [(4, 4, 4), (8, 8, 4), (1, 1, 1)])
def test_window_may_be_as_long_as_its_stride_or_one_latent_frame(
    sizes: tuple[int, int, int],
) -> None:
    assert Windows(*sizes).frames == sizes[0]


def test_only_videos_longer_than_a_window_are_split() -> None:
    windows = Windows(16, 12, 4)
    assert not windows.cuts(4)
    assert windows.cuts(5)


@pytest.mark.parametrize(
    ("sizes", "latent_frames", "spans"),
    [
        ((16, 12, 4), 1, [(0, 5)]),
        ((16, 12, 4), 4, [(0, 5)]),
        ((16, 12, 4), 5, [(0, 5), (3, 8)]),
        ((16, 12, 4), 7, [(0, 5), (3, 8)]),
        ((16, 12, 4), 8, [(0, 5), (3, 8), (6, 11)]),
        ((8, 8, 4), 5, [(0, 3), (2, 5)]),
        ((8, 4, 4), 4, [(0, 3), (1, 4), (2, 5)]),
    ],
)
def test_windows_share_one_latent_frame(
    sizes: tuple[int, int, int], latent_frames: int, spans: list[tuple[int, int]]
) -> None:
    made = Windows(*sizes).spans(latent_frames)
    assert [(span.start, span.stop) for span in made] == spans


def test_window_fades_in_over_the_previous_one() -> None:
    """Windows have four frames and a stride of two; the second window shares its first frame."""
    made = joined(Windows(4, 2, 1), frames(1, 2, 3, 4, 5), frames(0, 10, 20, 30, 40))
    assert made == [1, 2, 3, 4 * 1.0, (5 + 20) / 2]


def test_third_window_fades_over_the_blended_second_one() -> None:
    windows = Windows(4, 2, 1)
    first, second, third = frames(*[1.0] * 5), frames(*[3.0] * 5), frames(*[7.0] * 5)
    assert joined(windows, first, second, third) == [1, 1, 1, 1, 2, 3, 5]


def test_windows_without_an_overlap_follow_each_other() -> None:
    assert joined(Windows(2, 2, 1), frames(1, 2, 3), frames(0, 4, 5), frames(0, 6)) == [
        1, 2, 3, 4, 5, 6,
    ]  # fmt: skip


def test_short_last_window_fades_over_its_whole_length() -> None:
    made = joined(Windows(4, 2, 1), frames(1, 1, 1, 1, 1), frames(0, 3))
    assert made == [1, 1, 1, 1]


def test_decoded_windows_are_not_modified() -> None:
    first, second = frames(1, 2, 3, 4, 5), frames(0, 10, 20, 30, 40)
    joined(Windows(4, 2, 1), first, second)
    assert second.ravel().tolist() == [0, 10, 20, 30, 40]
