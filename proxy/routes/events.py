"""``/v1/videos/{id}/events``: a video's changes as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from proxy.context import CountedJob, Ctx, Seen
from proxy.jobs.model import FINISHED, Job
from proxy.openapi import error_answers
from proxy.schema import Video

RETRY_MS = 1000
PING_S = 15.0  # of silence, so that no gateway closes the connection as idle
# The second one keeps nginx from holding events back.
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}

router = APIRouter(
    prefix="/v1/videos", tags=["videos"], responses=error_answers(401, 403, 404, 429, 503)
)


class EventStream(StreamingResponse):
    """A response of encoded events.

    FastAPI's ``EventSourceResponse`` passes each event through two tasks more.
    """

    media_type = "text/event-stream"


@router.get(
    "/{video_id}/events",
    response_class=EventStream,
    responses={204: {"description": "The last event was sent before: EventSource stops"}},
)
async def events(request: Request, job: CountedJob, ctx: Ctx, seen: Seen) -> Response:
    """The video now and after each change, until it is finished or deleted; by a key or a signed
    link.
    """
    if job.status in FINISHED and request.headers.get("last-event-id") == _event_id(job):
        return Response(status_code=HTTPStatus.NO_CONTENT)
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
            data = seen(job).model_dump_json()
            yield format_sse_event(data_str=data, id=_event_id(job), retry=RETRY_MS)


def _event_id(job: Job) -> str:
    return f"{job.status}-{job.progress}"
