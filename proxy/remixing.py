"""What a remix keeps of its source."""

from __future__ import annotations

from proxy.jobs.model import Job
from proxy.spellings import Body

SIZE = ("width", "height", "size", "aspect_ratio", "resolution")
LENGTH = ("num_frames", "seconds")
KEPT_FOR_ANOTHER_MODEL = {"width", "height", "num_frames", "fps"}


def keep(body: Body, source: Job, *, same_model: bool, video: bool = False) -> None:
    """Add the parameters of ``source`` to ``body``, without those that it sets anew.

    The seed is a new one. Another model keeps size and length only: the rest does not suit it. The
    strength of an edit is kept with its ``video``.
    """
    kept = source.params.model_dump(exclude={"prompt", "seed", "strength"})
    if not same_model:
        kept = {name: kept[name] for name in KEPT_FOR_ANOTHER_MODEL}
    if video:
        kept["strength"] = source.params.strength
    for together in (SIZE, LENGTH):
        if body.given(*together):
            kept = {name: value for name, value in kept.items() if name not in together}
    for name, value in kept.items():
        if not body.given(name):
            body.fields[name] = value
