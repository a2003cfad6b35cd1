"""``/v1/videos/{id}/events``: a video's changes as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter
from fastapi.sse import EventSourceResponse, ServerSentEvent

from proxy.context import Counted, Ctx, Seen, VideoJob
from proxy.openapi import error_answers

RETRY_MS = 1000

router = APIRouter(
    prefix="/v1/videos", tags=["videos"], responses=error_answers(401, 404, 429, 503)
)


@router.get("/{video_id}/events", response_class=EventSourceResponse, dependencies=[Counted])
async def events(job: VideoJob, ctx: Ctx, seen: Seen) -> AsyncIterator[ServerSentEvent]:
    """The video now and after each change, until it is finished or deleted."""
    async with aclosing(ctx.service.updates.follow(job)) as jobs:
        async for latest in jobs:
            event_id = f"{latest.status}-{latest.progress}"
            yield ServerSentEvent(data=seen(latest), id=event_id, retry=RETRY_MS)
