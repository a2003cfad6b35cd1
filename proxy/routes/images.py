"""``/v1/images/generations``: OpenAI's Images API, each image a video of one frame."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from proxy.body import read_body
from proxy.context import Context, Counted, Ctx, Limited, Owner
from proxy.errors import invalid
from proxy.images import NO_LENGTH, CreateImage, ImageOptions, image_request
from proxy.images import PROPERTIES as IMAGE_PROPERTIES
from proxy.intake import held_body
from proxy.jobs.model import COMPLETED, Job
from proxy.openapi import IMAGE_EXAMPLES, QUEUEING_ERRORS, body_of, error_answers
from proxy.routes.synchronous import CLIENT_CLOSED_REQUEST, no_video, while_connected
from proxy.schema import GeneratedImage, ImageList
from proxy.spellings import PROPERTIES
from proxy.videos import IDEMPOTENCY_KEY

BODY = body_of(
    CreateImage,
    {
        **{name: PROPERTIES[name] for name in ("input_reference", "extra_params", "extra_body")},
        **IMAGE_PROPERTIES,
    },
    without=NO_LENGTH,
    examples=IMAGE_EXAMPLES,
)

router = APIRouter(
    prefix="/v1/images", tags=["images"], responses=QUEUEING_ERRORS | error_answers(500, 504)
)


@router.post(
    "/generations",
    response_model=ImageList,
    dependencies=[Limited, Counted],
    openapi_extra=BODY,
)
async def generate(request: Request, limits: Response, owner: Owner, ctx: Ctx) -> Response:
    """Make images and answer with them. A client that goes away cancels them."""
    asked, options = image_request(await read_body(request))
    scheme, host = request.url.scheme, request.headers.get("host", "")
    if options.response_format == "url" and ctx.links.base(scheme, host) is None:
        why = "response_format: this server has no links to its files; ask for b64_json."
        raise invalid("response_format", why, "unsupported_value")
    for _ in range(options.n - 1):  # `Limited` counted one
        limits.headers.update(await ctx.rate_limit.hit(owner))
    key = request.headers.get(IDEMPOTENCY_KEY)
    jobs = await ctx.videos.create_images(owner, asked, options, key)
    held_body(request).release()
    finished = await while_connected(request, _finished(ctx, jobs))
    missing = next((job for job in finished or () if job.status != COMPLETED), None)
    if finished is None or missing:
        if not ctx.service.updates.closed:
            await _stop(ctx, owner, jobs)
        if missing is None:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        raise no_video(missing, stopping=ctx.service.updates.closed)
    images = [await _image(request, ctx, job, options) for job in finished]
    params = finished[0].params
    answer = ImageList(
        created=int(finished[0].created_at),
        data=images,
        output_format=options.output_format,
        size=f"{params.width}x{params.height}",
    )
    return JSONResponse(answer.model_dump(exclude_none=True), headers=dict(limits.headers))


async def _finished(ctx: Context, jobs: Sequence[Job]) -> list[Job]:
    """Wait for the jobs, up to the first without an image; return their last states."""
    states: list[Job] = []
    for job in jobs:
        states.append(await ctx.videos.last_state(job))
        if states[-1].status != COMPLETED:
            break
    return states


async def _stop(ctx: Context, owner: str, jobs: Sequence[Job]) -> None:
    for job in jobs:
        await ctx.videos.stop(owner, job.id)


async def _image(request: Request, ctx: Context, job: Job, options: ImageOptions) -> GeneratedImage:
    if options.response_format == "url":
        url = ctx.links.url(
            job, request.url.scheme, request.headers.get("host", ""), options.output_format
        )
        return GeneratedImage(url=url, video_id=job.id)
    file = await ctx.videos.open_content(job, options.output_format)
    data = b"".join([piece async for piece in file.read(0, file.size)])
    text: Any = await asyncio.to_thread(base64.b64encode, data)
    return GeneratedImage(b64_json=text.decode(), video_id=job.id)
