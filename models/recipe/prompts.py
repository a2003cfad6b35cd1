"""Sentences that describe a scene, varied enough that a user's own wording is understood."""

from __future__ import annotations

import random

from models.recipe.scene import BOUNCE, Scene

NOUNS = {
    "circle": ("circle", "circle", "circle", "disc", "ball", "round shape"),
    "square": ("square", "square", "square", "box", "block"),
    "triangle": ("triangle",),
    "cross": ("cross", "cross", "cross", "plus sign", "plus"),
}
VERBS = {
    # (verb phrase, -ing phrase); {d} is the direction.
    "left": (("moves {d}", "moving {d}"), ("slides {d}", "sliding {d}"),
              ("glides {d}", "gliding {d}"),
             ("travels {d}", "travelling {d}"),
              ("drifts {d}", "drifting {d}"), ("goes {d}", "going {d}"),
             ("floats {d}", "floating {d}"), ("flies {d}", "flying {d}")),
    "grow": (("grows", "growing"), ("grows", "growing"), ("gets bigger", "getting bigger"),
             ("becomes larger", "becoming larger"), ("expands", "expanding"), ("gets larger",
             "getting larger")),
    "shrink": (("shrinks", "shrinking"), ("shrinks", "shrinking"), ("gets smaller",
    "getting smaller"),
               ("becomes smaller", "becoming smaller"), ("contracts", "contracting")),
    BOUNCE: (("bounces", "bouncing"),),
}  # fmt: skip
DIRECTIONS = {
    "left": ("left", "to the left", "leftwards", "from right to left", "towards the left"),
    "right": ("right", "to the right", "rightwards", "from left to right", "towards the right"),
    "up": ("up", "upwards", "upward", "from bottom to top", "towards the top"),
    "down": ("down", "downwards", "downward", "from top to bottom", "towards the bottom"),
}
ADVERBS = {"slow": ("slowly", "gently"), "fast": ("quickly", "fast", "rapidly"), "normal": ("",)}
BACKDROPS = ("on a {b} background", "on a {b} background", "on {b}", "against a {b} background",
"over a {b} backdrop",
             "in front of a {b} background")  # fmt: skip
FRAMES = (
    "a {c} {n} {v} {b}",
    "a {c} {n} {v} {b}",
    "a {c} {n} {v} {b}",
    "a {c} {n} {g} {b}",
    "{c} {n} {g} {b}",
    "{c} {n} {v}, {b}",
    "the {c} {n} {v} {b}",
    "the {c} {n} is {g} {b}",
    "{b}, a {c} {n} {v}",
    "{b} a {c} {n} is {g}",
    "a video of a {c} {n} {g} {b}",
    "a clip of a {c} {n} that {v} {b}",
    "there is a {c} {n} {b}, it {v}",
    "a {n} that is {c} {v} {b}",
    "one {c} {n} {v} {b}",
)
PLAIN_BACKGROUND = ("{b} background", "{b} backdrop")


def describe(scene: Scene, rng: random.Random) -> str:
    """Return one sentence for the scene, in lower case. It sometimes omits the background."""
    moves = scene.motion in DIRECTIONS
    verb, gerund = rng.choice(VERBS["left" if moves else scene.motion])
    if moves:
        direction = rng.choice(DIRECTIONS[scene.motion])
        verb, gerund = verb.format(d=direction), gerund.format(d=direction)
    adverb = rng.choice(ADVERBS[scene.speed])
    if adverb:
        verb, gerund = (
            f"{adverb} {p}" if rng.random() < 0.3 else f"{p} {adverb}" for p in (verb, gerund)
        )
    backdrop = "" if rng.random() < 0.04 else rng.choice(BACKDROPS).format(b=scene.background)
    frame = rng.choice(FRAMES)
    if backdrop and frame.endswith((" {v} {b}", " {g} {b}")) and rng.random() < 0.2:
        frame, backdrop = (
            frame[: -len(" {b}")] + ", {b}",
            rng.choice(PLAIN_BACKGROUND).format(b=scene.background),
        )
    text = frame.format(
        c=scene.colour, n=rng.choice(NOUNS[scene.shape]), v=verb, g=gerund, b=backdrop
    )
    if scene.background == "grey" and rng.random() < 0.2:
        text = text.replace("grey", "gray")
    text = text.replace(" a orange", " an orange")
    text = "an" + text[1:] if text.startswith("a orange") else text
    return " ".join(text.replace(" ,", ",").strip(" ,").split()) + (
        "." if rng.random() < 0.3 else ""
    )
