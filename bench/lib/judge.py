"""What a clip shows, by plain image measurements: nothing here is learned.

The background is the colour of the border. The object is what lies closer to its own colour than to
the background's; its motion is read off straight lines through centroid and size, its shape off the
overlap with the four outlines.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from models.recipe import scene

FAR = 40.0  # RGB distance from the background from which on a pixel may belong to an object
# RGB distance up to which a border colour counts as one of the known backgrounds
BACKGROUND_REACH = 80.0
LEAST_AREA = 0.003  # share of the frame below which a thing is no object
LEAST_CHROMA = 20.0  # Lab chroma below which a colour is a shade of grey
# travel in object sizes, or logarithm of growth, below which an object stands still
LEAST_CHANGE = 0.15
LEAST_OVERLAP = 0.6  # intersection over union below which an object is none of the shapes
# templates cover +-REACH object sizes (square roots of the area) with GRID x GRID points
REACH, GRID = 1.25, 33


@dataclass(frozen=True)
class Judgement:
    """The names that `models.recipe.scene` uses; ``None`` where nothing that fits was found."""

    colour: str | None
    shape: str | None
    motion: str | None
    background: str | None


@dataclass(frozen=True)
class _Track:
    """The object over the frames it was found in: centroid and size in pixels (size: square root
    of the area).
    """

    frame: np.ndarray
    x: np.ndarray
    y: np.ndarray
    size: np.ndarray


def judge(frames: np.ndarray) -> Judgement:
    """``frames`` is uint8 (T, H, W, 3)."""
    found, background = _object(frames)
    if found is None:
        return Judgement(None, None, None, background)
    front, cover, track = found
    return Judgement(_colour(front), _shape(cover, track), _motion(track, len(frames)), background)


def place(frames: np.ndarray) -> tuple[float, float] | None:
    """Return where the object is in the first frame: x and y in shares of the width and height."""
    found, _ = _object(frames)
    if found is None or found[2].frame[0] != 0:
        return None
    _, height, width, _ = frames.shape
    return (found[2].x[0] + 0.5) / width, (found[2].y[0] + 0.5) / height


def _object(
    frames: np.ndarray,
) -> tuple[tuple[np.ndarray, np.ndarray, _Track] | None, str | None]:
    """Return the object's colour, how much of each pixel it covers, and its track, if there is one;
    and the background.
    """
    pixels = frames.astype(np.float64)
    border = np.concatenate(
        [pixels[:, [0, -1]].reshape(-1, 3), pixels[:, :, [0, -1]].reshape(-1, 3)]
    )
    back = np.median(border, axis=0)
    background = _background(back)
    front = _object_colour(pixels, back)
    if front is None:
        return None, background
    cover = ((pixels - back) @ (front - back) / np.sum((front - back) ** 2)).clip(0, 1)
    cover = np.where(cover > 0.2, cover, 0)  # noise on the background has no weight
    track = _track(cover)
    return (None if track is None else (front, cover, track)), background


def _background(back: np.ndarray) -> str | None:
    name, distance = _nearest(
        back, {key: np.array(value) for key, value in scene.BACKGROUNDS.items()}
    )
    return name if distance <= BACKGROUND_REACH else None


def _object_colour(pixels: np.ndarray, back: np.ndarray) -> np.ndarray | None:
    """The median colour of the pixels furthest from the background: the inside of the object,
    not its blurred edge.
    """
    distance = np.linalg.norm(pixels - back, axis=-1)
    far = distance > FAR
    if far.mean() < LEAST_AREA:
        return None
    inner = distance >= np.quantile(distance[far], 0.5)
    return np.median(pixels[inner], axis=0)


def _colour(front: np.ndarray) -> str | None:
    measured = _lab(front)
    if np.hypot(measured[1], measured[2]) < LEAST_CHROMA:
        return None
    # Lightness counts half: a colour that came out darker or paler is still that colour.
    weight = np.array([0.5, 1, 1])
    known = {key: weight * _lab(np.array(value, float)) for key, value in scene.COLOURS.items()}
    return _nearest(weight * measured, known)[0]


def _track(cover: np.ndarray) -> _Track | None:
    """``cover`` (T, H, W) is how much of each pixel the object covers. None if it is missing in
    half of the frames.
    """
    _, height, width = cover.shape
    area = cover.sum(axis=(1, 2))
    found = np.flatnonzero(area >= LEAST_AREA * height * width)
    if 2 * len(found) <= len(cover):
        return None
    weight = cover[found] / area[found, None, None]
    x = (weight.sum(axis=1) @ np.arange(width, dtype=float)).ravel()
    y = (weight.sum(axis=2) @ np.arange(height, dtype=float)).ravel()
    return _Track(found, x, y, np.sqrt(area[found]))


def _motion(track: _Track, num_frames: int) -> str | None:
    """Travel is measured in sizes of the object and growth as a logarithm: neither depends on
    the resolution.
    """
    size = np.mean(track.size)
    dx, dy, growth = (
        np.polyfit(track.frame, values, 1)[0] * (num_frames - 1)
        for values in (track.x / size, track.y / size, np.log(track.size))
    )
    travel = np.hypot(dx, dy)
    if max(travel, abs(growth)) < LEAST_CHANGE:
        return None
    if abs(growth) > travel:
        return "grow" if growth > 0 else "shrink"
    if abs(dx) > abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def _shape(cover: np.ndarray, track: _Track) -> str | None:
    """The best overlap on average over the half of the frames where the object is largest."""
    largest = np.argsort(track.size)[len(track.size) // 2 :]
    outlines = np.stack([_normalised(cover[track.frame[i]], track, i) for i in largest])
    overlap = {name: _overlap(outlines, template) for name, template in _templates().items()}
    best = max(overlap, key=lambda name: overlap[name])
    return best if overlap[best] >= LEAST_OVERLAP else None


def _overlap(outlines: np.ndarray, template: np.ndarray) -> float:
    union = np.maximum(outlines, template).sum(axis=(1, 2))
    return float(np.mean(np.minimum(outlines, template).sum(axis=(1, 2)) / union))


def _normalised(cover: np.ndarray, track: _Track, i: int) -> np.ndarray:
    """The object of one frame on a grid that is centred on it and as large as it is: (GRID,
    GRID), bilinear.
    """
    steps = np.linspace(-REACH, REACH, GRID) * track.size[i]
    padded = np.pad(cover, 1)
    rows, row_part = _split(track.y[i] + steps + 1, padded.shape[0])
    columns, column_part = _split(track.x[i] + steps + 1, padded.shape[1])
    upper, lower = padded[rows], padded[rows + 1]
    lines = upper + (lower - upper) * row_part[:, None]
    return lines[:, columns] + (lines[:, columns + 1] - lines[:, columns]) * column_part


def _split(position: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole and fractional parts, such that index and index + 1 exist; what lies outside falls
    on the padding.
    """
    position = position.clip(0, length - 1)
    index = np.minimum(position.astype(int), length - 2)
    return index, position - index


@functools.cache
def _templates() -> dict[str, np.ndarray]:
    """Each shape as the recipe draws it, large and then normalised."""
    middle = ((0.5, 0.5), (0.5, 0.5))
    templates = {}
    for name in scene.SHAPES:
        drawn = scene.Scene("red", name, "grow", "black", "normal", middle, (0.3, 0.3))
        red = scene.render([drawn], 1, 128, 128)[0, 0, 0].numpy().astype(np.float64)
        cover = (red - red.min()) / (red.max() - red.min())
        track = _track(cover[None])
        assert track is not None
        templates[name] = _normalised(cover, track, 0)
    return templates


def _nearest(value: np.ndarray, known: dict[str, np.ndarray]) -> tuple[str, float]:
    distances = {name: float(np.linalg.norm(value - other)) for name, other in known.items()}
    name = min(distances, key=lambda key: distances[key])
    return name, distances[name]


def _lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB 0..255 to CIE L*a*b* (D65); IEC 61966-2-1 and CIE 15."""
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
