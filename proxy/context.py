"""What routes depend on: the objects of one application, the caller, and the video in the path."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Query, Request, Response
from fastapi.security import HTTPBearer

from proxy.jobs.model import Job
from proxy.keys import Keys
from proxy.links import Links, Resource
from proxy.rate_limit import RateLimit
from proxy.schema import Video
from proxy.service import Service
from proxy.streams import Streams
from proxy.triton_metrics import TritonMetrics
from proxy.videos import Videos

# For openapi.json only: it raises no error itself.
BEARER_SCHEME = HTTPBearer(
    auto_error=False, scheme_name="key", description="An API key of this server."
)


@dataclass(frozen=True)
class Context:
    """The objects that the routes of one application share."""

    service: Service
    videos: Videos
    keys: Keys
    rate_limit: RateLimit
    streams: Streams
    triton_metrics: TritonMetrics
    links: Links


# The dependencies are async so that FastAPI does not run each in a thread.
async def context(request: Request) -> Context:
    """Return the context of the application (`proxy.app.Application`) that serves the request."""
    return request.app.context


Ctx = Annotated[Context, Depends(context)]


async def owner(
    request: Request, ctx: Ctx, _: Annotated[object, Depends(BEARER_SCHEME)] = None
) -> str:
    """Return the owner of the request's API key. Raises ``ApiError`` 401."""
    return ctx.keys.owner(request.headers.get("authorization"))


Key = Depends(owner)
Owner = Annotated[str, Key]
VideoId = Annotated[str, Path(description="The video's id.")]


async def video_job(video_id: VideoId, owner: Owner, ctx: Ctx) -> Job:
    """Return the job of the video in the path. Raises ``ApiError`` 404."""
    return await ctx.videos.get(owner, video_id)


class LinkedJob:
    """A dependency: the job of a key, or that of a signed link to its ``resource``.

    Raises ``ApiError`` 401, 403 or 404.
    """

    def __init__(self, resource: Resource):
        self._resource: Resource = resource

    async def __call__(
        self,
        request: Request,
        video_id: VideoId,
        ctx: Ctx,
        expires: Annotated[
            int, Query(description="Of a signed link: its end, in unix seconds.")
        ] = 0,
        signature: Annotated[str | None, Query(description="Of a signed link.")] = None,
        _: Annotated[object, Depends(BEARER_SCHEME)] = None,
    ) -> Job:
        if signature is None:
            owner = ctx.keys.owner(request.headers.get("authorization"))
            return await ctx.videos.get(owner, video_id)
        ctx.links.check(video_id, expires, signature, self._resource)
        return await ctx.videos.of_anyone(video_id)


async def videos_seen(request: Request, ctx: Ctx) -> Callable[[Job], Video]:
    """Return what makes a Video of a job, with links to the address of the request."""
    host, scheme = request.headers.get("host", ""), request.url.scheme

    def seen(job: Job) -> Video:
        links = ctx.links
        return Video.of(job, links.url(job, scheme, host), links.events_url(job, scheme, host))

    return seen


async def limited(response: Response, owner: Owner, ctx: Ctx) -> None:
    """Count the request against the key's rate limit. Raises ``ApiError`` 429."""
    response.headers.update(await ctx.rate_limit.hit(owner))


async def counted(owner: Owner, ctx: Ctx) -> AsyncIterator[None]:
    """Count an answer that stays open, until it is sent. Raises ``ApiError`` 429 or 503."""
    ctx.streams.open(owner)
    try:
        yield
    finally:
        ctx.streams.close(owner)


VideoJob = Annotated[Job, Depends(video_job)]
ReadableJob = Annotated[Job, Depends(LinkedJob("content"))]
FollowedJob = Annotated[Job, Depends(LinkedJob("events"))]


async def followed(job: FollowedJob, ctx: Ctx) -> AsyncIterator[Job]:
    """Yield the job of an event stream, and count the stream for the job's owner until it is sent.

    Raises ``ApiError`` 429 or 503.
    """
    ctx.streams.open(job.owner)
    try:
        yield job
    finally:
        ctx.streams.close(job.owner)


CountedJob = Annotated[Job, Depends(followed)]
Seen = Annotated[Callable[[Job], Video], Depends(videos_seen)]
Limited = Depends(limited)
Counted = Depends(counted)
