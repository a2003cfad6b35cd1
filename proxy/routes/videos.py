"""``/v1/videos``: create, list, retrieve, delete, cancel, remix."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from proxy.body import read_body
from proxy.context import Ctx, Limited, Owner, Seen, VideoId, VideoJob
from proxy.fields import CreateVideo
from proxy.jobs.model import FINISHED
from proxy.openapi import QUEUEING_ERRORS, body_of, error_answers
from proxy.schema import Video, VideoDeleted, VideoList
from proxy.spellings import PROPERTIES
from proxy.videos import IDEMPOTENCY_KEY

MAX_LIMIT, DEFAULT_LIMIT = 100, 20
POLL_AFTER_MS = "1000"
Limit = Annotated[int, Query(ge=0, le=MAX_LIMIT, description="How many at most.")]
Order = Annotated[Literal["asc", "desc"], Query(description="The oldest or the newest first.")]
After = Annotated[str | None, Query(description="The id of the last one of the page before.")]

router = APIRouter(prefix="/v1/videos", tags=["videos"], responses=error_answers(401))


@router.post(
    "",
    response_model=Video,
    dependencies=[Limited],
    responses=QUEUEING_ERRORS,
    openapi_extra=body_of(CreateVideo, PROPERTIES),
)
async def create(request: Request, owner: Owner, ctx: Ctx, seen: Seen) -> Video:
    """Queue a video."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    return seen(await ctx.videos.create(owner, await read_body(request), key))


@router.post(
    "/{video_id}/remix",
    response_model=Video,
    dependencies=[Limited],
    responses=QUEUEING_ERRORS,
    openapi_extra=body_of(CreateVideo, PROPERTIES),
)
async def remix(video_id: VideoId, request: Request, owner: Owner, ctx: Ctx, seen: Seen) -> Video:
    """Queue a video like a finished one, but for the fields that are sent and a new seed."""
    source = await ctx.videos.get_completed(owner, video_id)
    key = request.headers.get(IDEMPOTENCY_KEY)
    return seen(await ctx.videos.remix(source, await read_body(request), key))


@router.get("", response_model=VideoList, responses=error_answers(400))
async def list_videos(
    owner: Owner,
    ctx: Ctx,
    seen: Seen,
    limit: Limit = DEFAULT_LIMIT,
    order: Order = "desc",
    after: After = None,
) -> VideoList:
    """A page of the key's videos, the newest first."""
    jobs, more = await ctx.videos.page(owner, limit, after, newest_first=order == "desc")
    return VideoList.of([seen(job) for job in jobs], more)


@router.get("/{video_id}", response_model=Video, responses=error_answers(404))
async def retrieve(job: VideoJob, seen: Seen) -> Any:
    """A video's state. While it is not finished, a header says when to ask again."""
    headers = {} if job.status in FINISHED else {"openai-poll-after-ms": POLL_AFTER_MS}
    return JSONResponse(seen(job).model_dump(), headers=headers)


@router.delete("/{video_id}", response_model=VideoDeleted, responses=error_answers(404))
async def delete(video_id: VideoId, owner: Owner, ctx: Ctx) -> VideoDeleted:
    """Remove a video; one that is being made stops on the device within a step."""
    return VideoDeleted(id=(await ctx.videos.delete(owner, video_id)).id)


@router.post("/{video_id}/cancel", response_model=Video, responses=error_answers(400, 404))
async def cancel(video_id: VideoId, owner: Owner, ctx: Ctx, seen: Seen) -> Video:
    """Stop making a video and keep its record: failed, code ``cancelled``."""
    return seen(await ctx.videos.cancel(owner, video_id))
