"""``/v1/videos/sync``: one request, one MP4."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, cast

from fastapi import APIRouter, Depends, Request, Response

from proxy.body import read_body
from proxy.context import Ctx, Owner
from proxy.creation import BESIDE, CreateVideo
from proxy.errors import ApiError, FailureCode, video_not_found
from proxy.intake import held_body
from proxy.jobs.model import COMPLETED, FAILED, Job
from proxy.openapi import body_of, error_answers
from proxy.routes.content import content
from proxy.routes.events import News
from proxy.routes.videos import QUEUEING, Limited, queue_video, stop_video
from proxy.streams import counted
from proxy.updates import Updates

STATUSES = {"timeout": 504, "interrupted": 503}
CLIENT_GONE = 499  # as nginx has it, for log and metrics: nobody reads the answer
MP4: dict[int | str, dict[str, Any]] = {200: {"content": {"video/mp4": {}}}}

router = APIRouter(
    prefix="/v1/videos", tags=["videos"], responses=QUEUEING | error_answers(500, 504) | MP4
)


@router.post(
    "/sync",
    response_class=Response,
    dependencies=[Limited, Depends(counted)],
    openapi_extra=body_of(CreateVideo, BESIDE),
)
async def sync(request: Request, limits: Response, owner: Owner, ctx: Ctx, news: News) -> Response:
    """Make a video and answer with the MP4. A client that goes away cancels it."""
    job = await queue_video(request, ctx, owner, await read_body(request))
    held_body(request).release()  # the video may take an hour
    end = await _end(request, news, job)
    if end is None:
        await stop_video(ctx, owner, job.id)
        return Response(status_code=CLIENT_GONE)
    if end.status != COMPLETED:
        raise _no_video(end, news)
    answer = await content(end.id, request, owner, ctx)
    answer.headers.update(limits.headers)
    answer.headers["x-video-id"] = end.id
    return answer


async def _end(request: Request, news: Updates, job: Job) -> Job | None:
    """The job as there was last news of it, or ``None`` when the client went away before."""
    last, gone = asyncio.create_task(_last(news, job)), asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait((last, gone), return_when=asyncio.FIRST_COMPLETED)
        return last.result() if last.done() else None
    finally:
        # Neither is ever inside a call of the database.
        last.cancel()
        gone.cancel()


async def _last(news: Updates, job: Job) -> Job:
    async with aclosing(news.follow(job)) as jobs:
        async for latest in jobs:
            job = latest
    return job


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _no_video(job: Job, news: Updates) -> ApiError:
    headers = {"x-should-retry": "false", "x-video-id": job.id}
    if job.status == FAILED:
        code = cast(FailureCode, job.error_code)
        message = job.error_message or "The video failed."
        return ApiError(STATUSES.get(code, 500), message, code=code, headers=headers)
    if news.closed:
        message = "The server is stopping; the video is kept: GET /v1/videos/{video_id} says how it goes on."
        return ApiError(503, message, code="interrupted", headers=headers)
    return video_not_found(job.id)
