"""Turns the fields of a create request into fully resolved sampling parameters.

Errors name the field at fault, as the client sent it.
"""

from __future__ import annotations

import logging
import math
from difflib import get_close_matches

from pydantic import ValidationError

from pipeline.errors import InputError
from pipeline.families import ModelInfo, SamplingParams, family_named
from pipeline.families.inputs import INPUT_VIDEO
from pipeline.validation import first_problem
from proxy.errors import invalid, invalid_field, refuse_bool
from proxy.fields import RANDOM_SEED, CreateVideo
from proxy.input_videos import VIDEO
from proxy.request_files import FIELDS, RequestFiles, api_message
from proxy.settings import RequestSettings
from proxy.sizes import asked_size, settled_size
from proxy.spellings import Body

logger = logging.getLogger(__name__)

MAX_COMPARED_CHARACTERS = 80
MAX_LOGGED_NAMES = 10


def requested(body: Body, settings: RequestSettings) -> CreateVideo:
    """Validate all fields but the files. Raises ``ApiError`` 400."""
    fields = {name: value for name, value in body.fields.items() if name not in FIELDS}
    unknown = [name for name in fields if name not in CreateVideo.model_fields]
    if unknown and settings.unknown_fields == "refuse":
        name = unknown[0]
        message = f"Unknown parameter: {name[:80]!r}.{_hint(name)}"
        raise invalid(name[:80], message, "unknown_parameter")
    if unknown:
        shown = [name[:MAX_COMPARED_CHARACTERS] for name in unknown[:MAX_LOGGED_NAMES]]
        logger.debug("ignored %d unknown fields of a request: %r", len(unknown), shown)
    for name in unknown:
        del fields[name]
    for name, value in fields.items():
        if isinstance(value, str) and "\0" in value:
            # PostgreSQL cannot store it.
            raise invalid(body.name(name), f"{body.name(name)}: should not hold a NUL character.")
        refuse_bool(body.name(name), value)
    try:
        return CreateVideo.model_validate(fields)
    except ValidationError as error:
        problem = first_problem(error)
        # Only metadata has parts, whose names the client chose.
        name = body.name(problem.field.partition(".")[0])
        if problem.kind == "missing":
            message = f"Missing required parameter: {name!r}."
            raise invalid(name, message, "missing_required_parameter") from None
        raise invalid_field(name, problem) from None


def create_params(
    request: CreateVideo,
    body: Body,
    info: ModelInfo,
    files: RequestFiles,
    settings: RequestSettings,
) -> SamplingParams:
    """Resolve all sizes, lengths and defaults, some of which ``files`` decide.

    Raises ``ApiError`` 400.
    """
    clip = files.video.clip if files.video else None
    values = request.model_dump(include=set(SamplingParams.model_fields))
    if request.seed == RANDOM_SEED:
        values["seed"] = None
    params = SamplingParams(**values)
    if request.seconds is not None and params.num_frames is None:
        fps = params.fps or (clip or info.defaults).fps
        frames = _frames(request.seconds, fps, info)
        params = params.model_copy(update={"num_frames": frames})
    asked = asked_size(request, info)
    if asked and clip and asked.size == (clip.width, clip.height):
        asked = None  # the size of its source: the model makes that or the nearest
        params = params.model_copy(update={"width": None, "height": None})
    if asked:
        width, height = settled_size(asked, info, params, settings.size_policy)
        params = params.model_copy(update={"width": width, "height": height})
    try:
        resolved = info.resolve(
            params,
            image=files.image.size if files.image else None,
            last_frame=files.last_frame is not None,
            video=clip,
        )
    except InputError as error:
        # The request may have named pixels and frames as size and seconds.
        name = error.field
        if asked and asked.field and name in ("width", "height"):
            name = asked.field
        if request.seconds is not None and request.num_frames is None and name == "num_frames":
            name = "seconds"
        field = VIDEO if name == INPUT_VIDEO else body.name(name)
        raise invalid(field, api_message(error, body)) from None
    _check_guidance(request, info, resolved.guidance_scale)
    settled = resolved.sampling()
    if not info.loras.available:
        del settled["lora"]  # a Triton of an older version does not take it
    return params.model_copy(update=settled | {"negative_prompt": info.negative_prompt(params)})


def _check_guidance(request: CreateVideo, info: ModelInfo, guidance_scale: float) -> None:
    """Raise ``ApiError`` 400 for fields of guidance that ask for what the model does not do."""
    scale, ratio = request.true_cfg_scale, request.boundary_ratio
    if ratio is not None and ratio != info.boundary_ratio:
        own = info.boundary_ratio
        why = f"the checkpoint's is {own:g}" if own else "the model's experts change as trained"
        raise invalid(
            "boundary_ratio", f"boundary_ratio: cannot be set; {why}.", "unsupported_value"
        )
    if scale is None:
        return
    if family_named(info.family).guidance_embedded:
        if scale > 1:
            why = "the model's guidance is built in; set guidance_scale"
            raise invalid("true_cfg_scale", f"true_cfg_scale: {why}.", "unsupported_value")
    elif scale != guidance_scale:
        why = f"does not agree with guidance_scale, which is {guidance_scale:g}; set that"
        raise invalid("true_cfg_scale", f"true_cfg_scale: {why}.")


def _hint(name: str) -> str:
    # The time of a comparison grows with the square of the length.
    near = (
        get_close_matches(name, CreateVideo.model_fields, 1)
        if len(name) <= MAX_COMPARED_CHARACTERS
        else []
    )
    return f" Did you mean {near[0]!r}?" if near else ""


def _frames(seconds: float, fps: int, info: ModelInfo) -> int:
    """Return the number of frames that the model can make nearest to ``seconds``."""
    step = info.temporal_compression
    return max(0, math.floor((seconds * fps - 1) / step + 0.5)) * step + 1
