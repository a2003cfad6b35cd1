"""``/v1/videos/sync``: one request, one MP4."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from proxy.body import read_body
from proxy.context import Counted, Ctx, Limited, Owner
from proxy.fields import CreateVideo
from proxy.file_response import file_response
from proxy.intake import held_body
from proxy.jobs.model import COMPLETED
from proxy.openapi import QUEUEING_ERRORS, body_of, error_answers
from proxy.routes.synchronous import CLIENT_CLOSED_REQUEST, no_video, while_connected
from proxy.spellings import PROPERTIES
from proxy.videos import IDEMPOTENCY_KEY

MP4_ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {"video/mp4": {}}}}

router = APIRouter(
    prefix="/v1/videos",
    tags=["videos"],
    responses=QUEUEING_ERRORS | error_answers(500, 504) | MP4_ANSWER,
)


@router.post(
    "/sync",
    response_class=Response,
    dependencies=[Limited, Counted],
    openapi_extra=body_of(CreateVideo, PROPERTIES),
)
async def sync(request: Request, limits: Response, owner: Owner, ctx: Ctx) -> Response:
    """Make a video and answer with the MP4. A client that goes away cancels it."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    job = await ctx.videos.create(owner, await read_body(request), key)
    held_body(request).release()  # the video may take an hour
    last = await while_connected(request, ctx.videos.last_state(job))
    if last is None:
        await ctx.videos.stop(owner, job.id)
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    if last.status != COMPLETED:
        raise no_video(last, stopping=ctx.service.updates.closed)
    answer = file_response(request, await ctx.videos.open_content(last, "video"))
    answer.headers.update({**limits.headers, "x-video-id": last.id})
    return answer
