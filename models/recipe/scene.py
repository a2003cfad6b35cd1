"""The scenes that the bundled checkpoint can generate: one coloured shape in motion on a plain
background.

Lengths are fractions of the frame's side, so a scene can be rendered at any size. Colours are sRGB
in 0..255.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
import torch

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 170, 60),
    "blue": (40, 70, 220),
    "yellow": (240, 215, 40),
    "purple": (140, 50, 170),
    "orange": (245, 130, 30),
}
SHAPES = ("circle", "square", "triangle", "cross")
MOTIONS = ("left", "right", "up", "down", "grow", "shrink")
BOUNCE = "bounce"
"""There and back again: a motion that only a LoRA knows."""
BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}
SPEEDS = ("slow", "normal", "fast")

TRAVEL = {"slow": (0.16, 0.20), "normal": (0.32, 0.40), "fast": (0.48, 0.52)}
GROWTH = {"slow": (1.3, 1.5), "normal": (1.9, 2.3), "fast": (2.7, 3.0)}
ARM = 1.08  # the longest extent of a shape (the cross's arm), in radii
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}

CIRCLE, SQUARE, TRIANGLE, CROSS = range(4)


@dataclass(frozen=True)
class Scene:
    """The content of a clip. ``centre`` and ``radius`` are those at ``times``, which are shares of
    the clip; motion between them is linear.
    """

    colour: str
    shape: str
    motion: str
    background: str
    speed: str
    centre: tuple[tuple[float, float], ...]
    radius: tuple[float, ...]
    times: tuple[float, ...] = (0.0, 1.0)

    @property
    def combination(self) -> tuple[str, str, str]:
        return self.colour, self.shape, self.motion


def held_out(colour: str, shape: str, motion: str) -> bool:
    """Return whether this combination is held out of training: 24 of 144, each colour, shape and
    motion equally often.
    """
    return (list(COLOURS).index(colour) + SHAPES.index(shape) + MOTIONS.index(motion)) % len(
        COLOURS
    ) == 0


def combinations(*, held: bool) -> list[tuple[str, str, str]]:
    """Return the (colour, shape, motion) combinations that are held out of training, or the
    others.
    """
    return [
        (c, s, m) for c in COLOURS for s in SHAPES for m in MOTIONS if held_out(c, s, m) == held
    ]


def sample_scene(rng: random.Random) -> Scene:
    """Draw a scene from the training combinations; it stays inside the frame from start to end."""
    while True:
        colour, shape, motion = rng.choice(list(COLOURS)), rng.choice(SHAPES), rng.choice(MOTIONS)
        if not held_out(colour, shape, motion):
            break
    speed = rng.choices(SPEEDS, weights=(1, 3, 1))[0]
    centre, radius = _path(motion, speed, rng)
    return Scene(colour, shape, motion, rng.choice(list(BACKGROUNDS)), speed, centre, radius)


def place(combination: tuple[str, str, str], background: str, rng: random.Random) -> Scene:
    """Draw a scene of a given combination, also one that is held out, at normal speed."""
    colour, shape, motion = combination
    return Scene(colour, shape, motion, background, "normal", *_path(motion, "normal", rng))


def sample_turn(rng: random.Random, turn: float) -> Scene:
    """Draw a scene whose shape comes from elsewhere, or changes its size, until the share ``turn``
    of the clip, and moves as it says from then on.
    """
    scene = sample_scene(rng)
    (start, end), (size, last_size) = scene.centre, scene.radius
    before = size * rng.choice((1.0, 1.0, 1.3, 0.75))
    before = before if ARM * before < 0.45 else size
    reach, room = TRAVEL["slow"][1] * 2 * turn, 0.5 - ARM * before
    come_from = tuple(
        min(0.5 + room, max(0.5 - room, at + rng.uniform(-reach, reach))) for at in start
    )
    rest = 1 - turn
    stop = tuple(a + (b - a) * rest for a, b in zip(start, end, strict=True))
    return replace(
        scene,
        times=(0.0, turn, 1.0),
        centre=(come_from, start, stop),
        radius=(before, size, size * (last_size / size) ** rest),
    )


def _path(motion: str, speed: str, rng: random.Random):
    """Return the centre and the radius at both ends of the clip."""
    if motion in DIRECTIONS:
        radius = rng.uniform(0.18, 0.23)
        along = min(rng.uniform(*TRAVEL[speed]), 1 - 2 * ARM * radius)
        room = 0.5 - ARM * radius - along / 2
        drift, across = rng.uniform(-room, room) * 0.6, rng.uniform(-0.14, 0.14)
        dx, dy = DIRECTIONS[motion]
        middle = (
            0.5 + abs(dx) * drift + abs(dy) * across,
            0.5 + abs(dy) * drift + abs(dx) * across,
        )
        start = (middle[0] - dx * along / 2, middle[1] - dy * along / 2)
        end = (middle[0] + dx * along / 2, middle[1] + dy * along / 2)
        return (start, end), (radius, radius)
    small = rng.uniform(0.12, 0.14)
    large = small * rng.uniform(*GROWTH[speed])
    room = min(0.1, 0.5 - ARM * large)
    centre = (0.5 + rng.uniform(-room, room), 0.5 + rng.uniform(-room, room))
    return (centre, centre), (small, large) if motion == "grow" else (large, small)


def _positions(scene: Scene, num_frames: int) -> list[tuple[float, ...]]:
    """Return x, y and radius of every frame."""
    frames = np.linspace(0, 1, num_frames)
    x, y = zip(*scene.centre, strict=True)
    values = (np.interp(frames, scene.times, each) for each in (x, y, scene.radius))
    return list(zip(*values, strict=True))


def render(scenes: list[Scene], num_frames: int, height: int, width: int) -> torch.Tensor:
    """Render antialiased clips of the scenes: float32 (B, 3, T, H, W) in [-1, 1]."""
    paths = torch.tensor([_positions(scene, num_frames) for scene in scenes]).float()
    centre, radius = paths[..., :2], paths[..., 2]  # (B, T, xy) and (B, T)
    ys = (torch.arange(height) + 0.5) / height
    xs = (torch.arange(width) + 0.5) / width
    dx = xs[None, None, None, :] - centre[:, :, 0, None, None]
    dy = ys[None, None, :, None] - centre[:, :, 1, None, None]
    kind = torch.tensor([SHAPES.index(s.shape) for s in scenes])[:, None, None, None]
    distance = _signed_distance(kind, dx, dy, radius[..., None, None])
    cover = (0.5 - distance * min(height, width)).clamp(0, 1)[:, None]  # (B, 1, T, H, W)
    front = torch.tensor([COLOURS[s.colour] for s in scenes])[:, :, None, None, None] / 127.5 - 1
    back = (
        torch.tensor([BACKGROUNDS[s.background] for s in scenes])[:, :, None, None, None] / 127.5
        - 1
    )
    return back + (front - back) * cover


def _signed_distance(
    kind: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor, radius: torch.Tensor
) -> torch.Tensor:
    """Return the signed distance to each shape's outline (negative inside), with similar areas for
    a given radius.
    """
    ax, ay = dx.abs(), dy.abs()
    circle = (dx**2 + dy**2).sqrt() - radius
    square = torch.maximum(ax, ay) - 0.88 * radius
    # An equilateral triangle that points up: the distance of its three sides from the centre is the
    # inradius.
    inradius = 0.68 * radius
    triangle = torch.maximum((3**0.5 * ax - dy) / 2, dy) - inradius
    bar = 0.34 * radius
    arm = ARM * radius
    cross = torch.minimum(torch.maximum(ax - arm, ay - bar), torch.maximum(ax - bar, ay - arm))
    return torch.where(
        kind == CIRCLE,
        circle,
        torch.where(kind == SQUARE, square, torch.where(kind == TRIANGLE, triangle, cross)),
    )
