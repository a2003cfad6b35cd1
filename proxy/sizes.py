"""The size of a video: from the fields that describe it, to one that the model can make."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.families import ModelInfo, SamplingParams
from proxy.errors import invalid
from proxy.fields import CreateVideo
from proxy.settings import SizePolicy

Size = tuple[int, int]
# The sizes of OpenAI's models: its clients can often choose among these only.
LISTED: frozenset[Size] = frozenset({(720, 1280), (1280, 720), (1024, 1792), (1792, 1024)})
AUTO = "auto"
SIZE = re.compile(r"([1-9][0-9]{0,4})[xX]([1-9][0-9]{0,4})")
RATIO = re.compile(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})")
RESOLUTION = re.compile(r"([1-9][0-9]{1,3})[pP]")
MAX_RATIO = 32
WIDE = 16 / 9
ALIKE = 0.03  # relative difference up to which aspect ratios count as equal: 832x480 and 16:9
CLOSE = 0.1  # the same for areas: 832x480 and "480p"


@dataclass(frozen=True)
class AskedSize:
    """The size that a request asks for.

    ``field`` describes it; None: ``width`` and ``height``. ``exact`` is False for a description
    such as "720p", which is rounded to a size that the model can make.
    """

    size: Size
    field: str | None
    exact: bool = True


def asked_size(request: CreateVideo, info: ModelInfo) -> AskedSize | None:
    """Return the size of a request, unless the model or the reference image decides it.

    That is also so with only one of ``width`` and ``height``. Raises ``ApiError`` 400 for fields
    that disagree.
    """
    exact, width, height = _parsed_size(request.size), request.width, request.height
    if exact and not (width in (None, exact[0]) and height in (None, exact[1])):
        raise invalid("size", "size does not agree with width and height; give one of them.")
    across, short = _ratio(request.aspect_ratio), _short_side(request.resolution)
    field = "size" if exact else None
    if not exact and width is not None and height is not None:
        exact = width, height
    if across is None and short is None:
        return AskedSize(exact, field) if exact else None
    described = "resolution" if across is None else "aspect_ratio"
    if exact:
        _check_description(exact, across, short)
        return AskedSize(exact, field)
    if width is not None or height is not None:
        raise invalid(described, f"{described}: give it without width and height, or give both.")
    return AskedSize(_described_size(across, short, info), described, exact=False)


def settled_size(
    asked: AskedSize, info: ModelInfo, params: SamplingParams, policy: SizePolicy | None
) -> Size:
    """Return the size to make: by ``policy``, or without one by whether OpenAI's models have it.

    A size that the model cannot make is returned for the model to refuse it.
    """
    size = asked.size
    nearest = policy == "nearest" or (policy is None and size in LISTED)
    if asked.exact and not nearest:
        return size
    fitting = fitting_size(size, info, params, far=nearest)
    return fitting or _rounded(size, info.size_multiple)


def fitting_size(size: Size, info: ModelInfo, params: SamplingParams, *, far: bool) -> Size | None:
    """Return ``size`` if the model can make it within its limits, or else the nearest size.

    The model's default size is preferred, also turned by 90 degrees, where it has the aspect ratio:
    the model was trained for it. Where the limits forbid every near size, the result is None, or
    with ``far`` a size with that aspect ratio and about as many pixels as the default size.
    """
    step, largest = info.size_multiple, info.max_side
    frames, steps = params.num_frames, params.num_inference_steps
    limit = info.bounds.max_area(
        frames or info.defaults.num_frames, steps or info.defaults.num_inference_steps
    )

    def fits(one: Size) -> bool:
        whole = all(side % step == 0 and step <= side <= largest for side in one)
        return whole and (limit is None or one[0] * one[1] <= limit)

    if fits(size):
        return size
    ratio, area = size[0] / size[1], size[0] * size[1]
    trained = [one for one in _default_sizes(info) if fits(one) and _alike(one[0] / one[1], ratio)]
    around = [
        (width, height)
        for width in _around(size[0], step)
        for height in _around(size[1], step)
        if fits((width, height))
    ]
    near = [one for one in trained if abs(math.log(one[0] * one[1] / area)) <= CLOSE] or around
    if near or not far:
        return min(near, key=lambda one: _distance(one, size), default=None)
    pixels = info.defaults.width * info.defaults.height
    return trained[0] if trained else info.size_like(*size, min(pixels, limit or pixels))


def _parsed_size(text: str | None) -> Size | None:
    if text is None or text == AUTO:
        return None
    if not (match := SIZE.fullmatch(text)):
        raise invalid("size", "size: should be WIDTHxHEIGHT in pixels, such as 832x480; or auto.")
    return int(match[1]), int(match[2])


def _described_size(across: float | None, short: int | None, info: ModelInfo) -> Size:
    """Return the size of an aspect ratio and a short side; one of them may be the default's."""
    width, height = info.defaults.width, info.defaults.height
    if across is None:
        across = next((r for r in (WIDE, 1 / WIDE) if _alike(width / height, r)), width / height)
    if short is None:
        area = width * height
        return round(math.sqrt(area * across)), round(math.sqrt(area / across))
    return (round(short * across), short) if across > 1 else (short, round(short / across))


def _check_description(size: Size, across: float | None, short: int | None) -> None:
    """Raise ``ApiError`` 400 if ``size`` is not of this aspect ratio and short side, about."""
    wrong = None
    if across is not None and not _alike(size[0] / size[1], across):
        wrong = "aspect_ratio"
    elif short is not None and abs(math.log(min(size) / short)) > CLOSE:
        wrong = "resolution"
    if wrong:
        shown = f"the size {size[0]}x{size[1]}"
        raise invalid(wrong, f"{wrong} does not agree with {shown}; give one of them.")


def _ratio(text: str | None) -> float | None:
    if text is None or text == AUTO:
        return None
    match = RATIO.fullmatch(text)
    ratio = int(match[1]) / int(match[2]) if match else 0.0
    if not 1 / MAX_RATIO <= ratio <= MAX_RATIO:
        raise invalid(
            "aspect_ratio",
            f"aspect_ratio: should be WIDTH:HEIGHT, such as 16:9, up to {MAX_RATIO}:1; or auto.",
        )
    return ratio


def _short_side(text: str | None) -> int | None:
    if text is None or text == AUTO:
        return None
    if not (match := RESOLUTION.fullmatch(text)):
        raise invalid("resolution", "resolution: should be the short side, such as 720p; or auto.")
    return int(match[1])


def _default_sizes(info: ModelInfo) -> Iterator[Size]:
    width, height = info.defaults.width, info.defaults.height
    yield width, height
    yield height, width


def _rounded(size: Size, step: int) -> Size:
    width, height = (max(1, round(side / step)) * step for side in size)
    return width, height


def _around(side: int, step: int) -> tuple[int, int]:
    """Return the multiples of ``step`` below and above ``side``."""
    below = side // step * step
    return below, below if below == side else below + step


def _alike(one: float, other: float) -> bool:
    return abs(math.log(one / other)) <= ALIKE


def _distance(one: Size, other: Size) -> float:
    return sum(abs(math.log(a / b)) for a, b in zip(one, other, strict=True))
