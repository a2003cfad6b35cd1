"""From the body of a create request to sampling parameters with nothing left open, or an error
that names the field.
"""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import InputError
from pipeline.families import ModelInfo, SamplingParams
from pipeline.families.sampling import MAX_PROMPT_CHARACTERS
from pipeline.validation import first_problem
from proxy.errors import Code, invalid
from proxy.json_body import parse_json
from proxy.reference_images.parsing import INPUT_REFERENCE, REFERENCE_KEYS, ImageSource, parse

MAX_COMPARED_CHARACTERS = 80
SIZE_PATTERN = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class CreateVideo(SamplingParams):
    """OpenAI's fields, and the sampling parameters of this server beside them."""

    model: str | None = Field(
        default=None, description="The model to use; this server's model by default."
    )
    seconds: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="Length; rounded to what the model can make.",
    )
    size: str | None = Field(default=None, description="WIDTHxHEIGHT in pixels.")


class RemixVideo(BaseModel):
    """All else is the source video's."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(
        min_length=1,
        max_length=MAX_PROMPT_CHARACTERS,
        description="Text description of the new video.",
    )


# What else a create request may hold; for openapi.json.
EXTRA_BODY_PROPERTIES: dict[str, Any] = {
    "extra_params": {
        "type": "object",
        "description": "Any of the parameters of this server, as at the top; in a form as JSON text.",
    },
    INPUT_REFERENCE: {
        "description": "Image to begin from: a file in a form, or its URL. Text-to-video models refuse it.",
        "anyOf": [
            {"type": "string", "format": "binary"},
            {
                "type": "object",
                "properties": {key: {"type": "string"} for key in sorted(REFERENCE_KEYS)},
            },
        ],
    },
}


def with_extra_params(body: dict[str, Any]) -> dict[str, Any]:
    """``extra_params`` as an object, or as JSON text in a form, is the same as its keys at the
    top.
    """
    extra = body.get("extra_params")
    if extra is None:
        return dict(body)
    if isinstance(extra, str):
        try:
            extra = parse_json(extra)
        except ValueError:
            raise invalid(
                "extra_params", "This is not valid JSON, or has too many values."
            ) from None
    if not isinstance(extra, dict):
        raise invalid("extra_params", "This should be an object of parameters.", "invalid_type")
    rest = {key: value for key, value in body.items() if key != "extra_params"}
    if twice := rest.keys() & extra.keys():
        raise invalid(min(twice), "This is given twice, here and in extra_params.")
    return rest | extra


def named_image(body: dict[str, Any], info: ModelInfo) -> ImageSource | None:
    """Return the reference image, neither fetched nor decoded yet. Raises ``ApiError`` 400."""
    named = body.get(INPUT_REFERENCE)
    try:
        info.check_picture(given=named is not None)
    except InputError as error:
        code: Code = "missing_required_parameter" if named is None else "unsupported_value"
        raise invalid(INPUT_REFERENCE, f"{error}.", code) from None
    return None if named is None else parse(named)


def requested(body: dict[str, Any]) -> CreateVideo:
    """What a body says that went through `with_extra_params`, but for the picture. Raises
    ``ApiError`` 400.
    """
    return _validated({name: value for name, value in body.items() if name != INPUT_REFERENCE})


def create_params(
    request: CreateVideo, info: ModelInfo, image_size: tuple[int, int] | None
) -> SamplingParams:
    """Sizes and lengths as they will really be made; ``picture`` is the size of the one to begin
    from.

    Raises ``ApiError`` 400.
    """
    params = SamplingParams(**request.model_dump(include=set(SamplingParams.model_fields)))
    if request.size is not None:
        params = _with_size(params, request.size)
    if request.seconds is not None and params.num_frames is None:
        params = params.model_copy(update={"num_frames": _frames(request.seconds, params, info)})
    try:
        resolved = info.resolve(params, picture=image_size)
    except InputError as error:
        # A size or length was asked for under another name than the pixels and frames it came to.
        name = error.field
        if request.size is not None and name in ("width", "height"):
            name = "size"
        if request.seconds is not None and request.num_frames is None and name == "num_frames":
            name = "seconds"
        raise invalid(name, str(error)) from None
    settled = resolved.model_dump(exclude={"return_frames"})
    return params.model_copy(update=settled | {"negative_prompt": info.negative_prompt(params)})


def _validated(body: dict[str, Any]) -> CreateVideo:
    for name in body:
        if name not in CreateVideo.model_fields:
            hint = _hint(name)
            raise invalid(
                name[:80], f"Unknown parameter: {name[:80]!r}.{hint}", "unknown_parameter"
            )
        if isinstance(body[name], str) and "\0" in body[name]:
            # PostgreSQL keeps no such text.
            raise invalid(name, f"{name}: should not hold a NUL character.")
        if isinstance(body[name], bool):
            # To Python it is a number.
            raise invalid(name, f"{name}: should not be true or false.", "invalid_type")
    try:
        return CreateVideo.model_validate(body)
    except ValidationError as error:
        problem = first_problem(error)
        name, kind = problem.field, problem.kind
        if kind == "missing":
            message = f"Missing required parameter: {name!r}."
            raise invalid(name, message, "missing_required_parameter") from None
        is_type = kind.endswith(("_type", "_parsing"))
        raise invalid(name, f"{problem}.", "invalid_type" if is_type else "invalid_value") from None


def _hint(name: str) -> str:
    # Comparing takes time by the square of the length.
    near = (
        get_close_matches(name, CreateVideo.model_fields, 1)
        if len(name) <= MAX_COMPARED_CHARACTERS
        else []
    )
    return f" Did you mean {near[0]!r}?" if near else ""


def _with_size(params: SamplingParams, size: str) -> SamplingParams:
    match = SIZE_PATTERN.fullmatch(size)
    if not match:
        raise invalid("size", "size: should be WIDTHxHEIGHT in pixels, such as 832x480.")
    if params.width is not None or params.height is not None:
        raise invalid("size", "size: give either size, or width and height.")
    return params.model_copy(update={"width": int(match[1]), "height": int(match[2])})


def _frames(seconds: float, params: SamplingParams, info: ModelInfo) -> int:
    """The number of frames the model can make that is nearest to so many seconds."""
    step, fps = info.temporal_compression, params.fps or info.defaults.fps
    return max(0, math.floor((seconds * fps - 1) / step + 0.5)) * step + 1
