"""``/v1/videos/{id}/events``: a video's changes as server-sent events."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from proxy.context import CountedJob, Ctx, Seen
from proxy.jobs.model import FINISHED, IN_PROGRESS, Job
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
async def events(
    request: Request,
    job: CountedJob,
    ctx: Ctx,
    seen: Seen,
    previews: Annotated[
        bool, Query(description="Also send events `preview`: small images of a running video.")
    ] = False,
) -> Response:
    """The video now and after each change, until it is finished or deleted; by a key or a signed
    link.
    """
    if job.status in FINISHED and request.headers.get("last-event-id") == _event_id(job):
        return Response(status_code=HTTPStatus.NO_CONTENT)
    jobs = ctx.service.updates.follow(job, PING_S, previews=previews)
    newest = ctx.service.previews.newest if previews else lambda _id: None
    return EventStream(_encoded(jobs, seen, newest), headers=HEADERS)


async def _encoded(
    jobs: AsyncGenerator[Job],
    seen: Callable[[Job], Video],
    newest: Callable[[str], bytes | None],
) -> AsyncIterator[bytes]:
    """Encode each change as an event, and a repeated job as its ``newest`` preview or a ping."""
    last, shown = None, None
    async with aclosing(jobs):
        async for job in jobs:
            preview = newest(job.id) if job.status == IN_PROGRESS else None
            if job is not last:
                data = seen(job).model_dump_json()
                yield format_sse_event(data_str=data, id=_event_id(job), retry=RETRY_MS)
            elif preview is shown:
                yield KEEPALIVE_COMMENT
            if preview and preview is not shown:
                yield format_sse_event(data_str=_preview_data(preview), event="preview")
            last, shown = job, preview


def _preview_data(webp: bytes) -> str:
    return json.dumps({"b64_json": base64.b64encode(webp).decode()})


def _event_id(job: Job) -> str:
    return f"{job.status}-{job.progress}"
