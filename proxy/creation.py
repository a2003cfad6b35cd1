"""Turns the body of a create request into fully resolved sampling parameters.

Errors name the field at fault.
"""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from pipeline.errors import InputError
from pipeline.families import ModelInfo, SamplingParams
from pipeline.families.sampling import MAX_PROMPT_CHARACTERS
from pipeline.validation import first_problem
from proxy.errors import Code, invalid
from proxy.json_body import parse_json
from proxy.reference_images.parsing import INPUT_REFERENCE, REFERENCE_KEYS, ImageSource, parse

MAX_COMPARED_CHARACTERS = 80
SIZE_PATTERN = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


Metadata = dict[
    Annotated[str, Field(max_length=64)],
    Annotated[str, Field(max_length=512)] | bool | int | FiniteFloat,
]


class CreateVideo(SamplingParams):
    """The fields of a create request: OpenAI's, and the sampling parameters of this server."""

    model: str | None = Field(
        default=None, description="The model to use; this server's model by default."
    )
    seconds: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="Length in seconds; rounded to a length that the model can make.",
    )
    size: str | None = Field(default=None, description="WIDTHxHEIGHT in pixels.")
    metadata: Metadata | None = Field(
        default=None,
        max_length=16,
        description="Up to 16 texts or numbers by name (64 characters each), kept with the video.",
    )
    user: str | None = Field(
        default=None, max_length=512, description="Accepted, without effect: keys tell users apart."
    )


class RemixVideo(BaseModel):
    """The fields of a remix request; the source video has all other values."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(
        min_length=1,
        max_length=MAX_PROMPT_CHARACTERS,
        description="Text description of the new video.",
    )


# Properties of a create request that are not fields of CreateVideo, for openapi.json.
EXTRA_BODY_PROPERTIES: dict[str, Any] = {
    "extra_params": {
        "type": "object",
        "description": "Any parameters of this server, as at the top; in a form, as JSON text.",
    },
    INPUT_REFERENCE: {
        "description": "Reference image: a file in a form, or its URL. Text-to-video models"
        " refuse it.",
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
    """Merge ``extra_params``, an object or its JSON text, into the top level of a body.

    Raises ``ApiError`` 400, also for a name that is in both.
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
        raise invalid(min(twice), "This parameter is set twice, here and in extra_params.")
    return rest | extra


def named_image(body: dict[str, Any], info: ModelInfo) -> ImageSource | None:
    """Return the reference image, neither fetched nor decoded yet. Raises ``ApiError`` 400."""
    named = body.get(INPUT_REFERENCE)
    try:
        info.check_image(given=named is not None)
    except InputError as error:
        code: Code = "missing_required_parameter" if named is None else "unsupported_value"
        raise invalid(INPUT_REFERENCE, f"{error}.", code) from None
    return None if named is None else parse(named)


def requested(body: dict[str, Any]) -> CreateVideo:
    """Validate a body that `with_extra_params` returned, except for its image.

    Raises ``ApiError`` 400.
    """
    return _validated({name: value for name, value in body.items() if name != INPUT_REFERENCE})


def create_params(
    request: CreateVideo, info: ModelInfo, image_size: tuple[int, int] | None
) -> SamplingParams:
    """Resolve all sizes, lengths and defaults; ``image_size`` is that of the reference image.

    Raises ``ApiError`` 400.
    """
    params = SamplingParams(**request.model_dump(include=set(SamplingParams.model_fields)))
    if request.size is not None:
        params = _with_size(params, request.size)
    if request.seconds is not None and params.num_frames is None:
        params = params.model_copy(update={"num_frames": _frames(request.seconds, params, info)})
    try:
        resolved = info.resolve(params, image=image_size)
    except InputError as error:
        # The request may have named pixels and frames as size and seconds.
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
            # PostgreSQL cannot store it.
            raise invalid(name, f"{name}: should not hold a NUL character.")
        if isinstance(body[name], bool):
            # In Python a bool is a number.
            raise invalid(name, f"{name}: should not be true or false.", "invalid_type")
    try:
        return CreateVideo.model_validate(body)
    except ValidationError as error:
        problem = first_problem(error)
        # Only metadata has parts, whose names the client chose.
        name, kind = problem.field.partition(".")[0], problem.kind
        if kind == "missing":
            message = f"Missing required parameter: {name!r}."
            raise invalid(name, message, "missing_required_parameter") from None
        is_type = kind.endswith(("_type", "_parsing"))
        message = f"{name}: {problem.message}."
        raise invalid(name, message, "invalid_type" if is_type else "invalid_value") from None


def _hint(name: str) -> str:
    # The time of a comparison grows with the square of the length.
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
    """Return the number of frames that the model can make nearest to ``seconds``."""
    step, fps = info.temporal_compression, params.fps or info.defaults.fps
    return max(0, math.floor((seconds * fps - 1) / step + 0.5)) * step + 1
