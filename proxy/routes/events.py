"""``/v1/videos/{id}/events``: a video's changes as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from proxy.jobs.model import Job
from proxy.openapi import error_answers
from proxy.routes.videos import find
from proxy.schema import Video
from proxy.streams import counted
from proxy.updates import Updates

RETRY_MS = 1000


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    updates = Updates(app.state.service.jobs)
    app.state.updates = updates
    app.state.service.worker.tell(updates.wake)
    async with asyncio.TaskGroup() as group:
        group.create_task(updates.run())
        try:
            yield
        finally:
            updates.close()


def updates(request: Request) -> Updates:
    """A dependency: the app's news of jobs."""
    return request.app.state.updates


News = Annotated[Updates, Depends(updates)]
router = APIRouter(
    prefix="/v1/videos",
    tags=["videos"],
    responses=error_answers(401, 404, 429, 503),
    lifespan=_lifespan,
)


@router.get(
    "/{video_id}/events", response_class=EventSourceResponse, dependencies=[Depends(counted)]
)
async def events(job: Annotated[Job, Depends(find)], news: News) -> AsyncIterator[ServerSentEvent]:
    """The video now and after each change, until it is finished or deleted."""
    async with aclosing(news.follow(job)) as jobs:
        async for latest in jobs:
            yield ServerSentEvent(
                data=Video.of(latest), id=f"{latest.status}-{latest.progress}", retry=RETRY_MS
            )
