"""``/v1/videos/edits`` and ``/v1/videos/extensions``: videos that are made of another one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from proxy.body import read_body
from proxy.context import Ctx, Limited, Owner, Seen
from proxy.fields import CreateVideo
from proxy.input_videos import VIDEO
from proxy.openapi import OF_VIDEO_EXAMPLES, QUEUEING_ERRORS, body_of
from proxy.schema import Video
from proxy.spellings import PROPERTIES
from proxy.videos import IDEMPOTENCY_KEY

SOURCE: dict[str, Any] = {
    "description": "The video: a file in a form, MP4 or WebM, or the id of a completed video.",
    "anyOf": [
        {"type": "string", "format": "binary"},
        {
            "type": "object",
            "properties": {"id": {"type": "string"}},
            "required": ["id"],
            "additionalProperties": False,
        },
    ],
}
EDIT_BODY = body_of(
    CreateVideo, {**PROPERTIES, VIDEO: SOURCE}, required=[VIDEO], examples=OF_VIDEO_EXAMPLES
)
EXTENSION_BODY = body_of(
    CreateVideo,
    {**PROPERTIES, VIDEO: SOURCE},
    without=["strength"],
    required=[VIDEO],
    examples=OF_VIDEO_EXAMPLES,
)

router = APIRouter(prefix="/v1/videos", tags=["videos"], responses=QUEUEING_ERRORS)


@router.post("/edits", response_model=Video, dependencies=[Limited], openapi_extra=EDIT_BODY)
async def edit(request: Request, owner: Owner, ctx: Ctx, seen: Seen) -> Video:
    """Queue a video like another one, from another prompt; ``strength`` says how like."""
    key, body = request.headers.get(IDEMPOTENCY_KEY), await read_body(request)
    return seen(await ctx.videos.of_video(owner, body, "edit", key))


@router.post(
    "/extensions", response_model=Video, dependencies=[Limited], openapi_extra=EXTENSION_BODY
)
async def extend(request: Request, owner: Owner, ctx: Ctx, seen: Seen) -> Video:
    """Queue a video that begins with another one and continues it by ``seconds``."""
    key, body = request.headers.get(IDEMPOTENCY_KEY), await read_body(request)
    return seen(await ctx.videos.of_video(owner, body, "extension", key))
