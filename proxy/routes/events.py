"""``/v1/videos/{id}/events``: a video's changes as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from proxy.context import Counted, Ctx, Seen, VideoJob
from proxy.jobs.model import Job
from proxy.openapi import error_answers
from proxy.schema import Video

RETRY_MS = 1000
PING_S = 15.0  # of silence, so that no gateway closes the connection as idle
# The second one keeps nginx from holding events back.
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}

router = APIRouter(
    prefix="/v1/videos", tags=["videos"], responses=error_answers(401, 404, 429, 503)
)


class EventStream(StreamingResponse):
    """A response of encoded events.

    FastAPI's ``EventSourceResponse`` passes each event through two tasks more.
    """

    media_type = "text/event-stream"


@router.get("/{video_id}/events", response_class=EventStream, dependencies=[Counted])
async def events(job: VideoJob, ctx: Ctx, seen: Seen) -> EventStream:
    """The video now and after each change, until it is finished or deleted."""
    jobs = ctx.service.updates.follow(job, PING_S)
    return EventStream(_encoded(jobs, seen), headers=HEADERS)


async def _encoded(jobs: AsyncGenerator[Job], seen: Callable[[Job], Video]) -> AsyncIterator[bytes]:
    """Encode each change as an event, and a repeated job as a ping."""
    last = None
    async with aclosing(jobs):
        async for job in jobs:
            if job is last:
                yield KEEPALIVE_COMMENT
                continue
            last = job
            data, event_id = seen(job).model_dump_json(), f"{job.status}-{job.progress}"
            yield format_sse_event(data_str=data, id=event_id, retry=RETRY_MS)
