"""``/v1/videos/sync``: one request, one MP4."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from proxy.body import read_body
from proxy.context import Counted, Ctx, Limited, Owner
from proxy.errors import ApiError, video_not_found
from proxy.fields import CreateVideo
from proxy.file_response import file_response
from proxy.intake import held_body
from proxy.jobs.model import COMPLETED, FAILED, Job
from proxy.openapi import QUEUEING_ERRORS, body_of, error_answers
from proxy.spellings import PROPERTIES
from proxy.videos import IDEMPOTENCY_KEY

FAILURE_STATUSES: Mapping[str | None, int] = {"timeout": 504, "interrupted": 503}
CLIENT_CLOSED_REQUEST = 499  # nginx's number, for log and metrics: the client is gone
MP4_ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {"video/mp4": {}}}}
STOPPING_MESSAGE = (
    "The server is stopping; the video is kept: GET /v1/videos/{video_id} reports its progress."
)
T = TypeVar("T")

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
    last = await _while_connected(request, ctx.videos.last_state(job))
    if last is None:
        await ctx.videos.stop(owner, job.id)
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    if last.status != COMPLETED:
        raise _no_video(last, stopping=ctx.service.updates.closed)
    answer = file_response(request, await ctx.videos.open_content(last, "video"))
    answer.headers.update({**limits.headers, "x-video-id": last.id})
    return answer


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of ``work``, or None when the client goes away before."""
    # `work` may be cancelled without waiting: it is never inside a call of the database.
    working, gone = asyncio.create_task(work), asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _no_video(job: Job, *, stopping: bool) -> ApiError:
    headers = {"x-should-retry": "false", "x-video-id": job.id}
    if job.status == FAILED:
        message, code = job.error_message or "The video failed.", job.error_code
        return ApiError(FAILURE_STATUSES.get(code, 500), message, code=code, headers=headers)
    if stopping:
        return ApiError(503, STOPPING_MESSAGE, code="interrupted", headers=headers)
    return video_not_found(job.id)
