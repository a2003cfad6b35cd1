"""What the synchronous routes share: the wait for a job, and the answer without a result."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from fastapi import Request

from proxy.errors import ApiError, video_not_found
from proxy.jobs.model import FAILED, Job

FAILURE_STATUSES: Mapping[str | None, int] = {"timeout": 504, "interrupted": 503}
CLIENT_CLOSED_REQUEST = 499  # of nginx: the client closed the connection; in log and metrics
STOPPING_MESSAGE = (
    "The server is stopping; the video is kept: GET /v1/videos/{video_id} reports its progress."
)
T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of ``work``, or None when the client goes away before."""
    # `work` may be cancelled without waiting: it is never inside a call of the database.
    working, gone = asyncio.create_task(work), asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        gone.cancel()


def no_video(job: Job, *, stopping: bool) -> ApiError:
    """Return the error of a job without a video: it failed, was deleted, or the server stops."""
    headers = {"x-should-retry": "false", "x-video-id": job.id}
    if job.status == FAILED:
        message, code = job.error_message or "The video failed.", job.error_code
        return ApiError(FAILURE_STATUSES.get(code, 500), message, code=code, headers=headers)
    if stopping:
        return ApiError(503, STOPPING_MESSAGE, code="interrupted", headers=headers)
    return video_not_found(job.id)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
