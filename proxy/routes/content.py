"""``/v1/videos/{id}/content``: a video's file or one of its pictures, whole or in ranges."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from proxy.context import Ctx, Owner
from proxy.errors import ApiError, FailureCode, invalid, video_not_found
from proxy.jobs.model import COMPLETED, FAILED, Job
from proxy.openapi import error_answers
from proxy.routes.videos import VideoId
from proxy.service import Service
from proxy.video_store import VARIANTS

MEDIA_TYPES: dict[str, Any] = {variant.media_type: {} for variant in VARIANTS.values()}
FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": MEDIA_TYPES},
    206: {"description": "The range that was asked for", "content": MEDIA_TYPES},
    304: {"description": "Unchanged"},
}
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

router = APIRouter(
    prefix="/v1/videos", tags=["videos"], responses=error_answers(400, 401, 404, 416)
)


@router.head("/{video_id}/content", include_in_schema=False)
@router.get("/{video_id}/content", response_class=Response, responses=FILE)
async def content(
    video_id: VideoId,
    request: Request,
    owner: Owner,
    ctx: Ctx,
    variant: Annotated[
        str,
        Query(description="Which file of the video.", json_schema_extra={"enum": list(VARIANTS)}),
    ] = "video",
) -> Response:
    """The finished MP4, or its thumbnail or spritesheet as WebP."""
    if variant not in VARIANTS:
        raise invalid("variant", f"variant: should be one of {', '.join(VARIANTS)}.")
    job = await ctx.jobs.get(owner, video_id)
    if job is None:
        raise video_not_found(video_id)
    key, kind = _key(job), VARIANTS[variant]
    try:
        size, etag = await ctx.files.size_and_etag(key, variant)
    except FileNotFoundError:
        raise video_not_found(video_id) from None
    headers = {"etag": etag, "accept-ranges": "bytes", "cache-control": "private"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    start, end = _range(request.headers.get("range"), size)
    status = 200 if (start, end) == (0, size) else 206
    if status == 206:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    headers["content-length"] = str(end - start)
    headers["content-disposition"] = f'attachment; filename="{job.id}{kind.suffix}"'
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=kind.media_type)
    return StreamingResponse(
        _counted(ctx, ctx.files.read(key, variant, start, end)), status, headers, kind.media_type
    )


async def _counted(ctx: Service, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece
        ctx.metrics.sent(len(piece))


def _key(job: Job) -> str:
    if job.status == FAILED:
        raise ApiError(
            400,
            job.error_message or "The video failed.",
            code=cast(FailureCode, job.error_code),
            param="video_id",
        )
    if job.status != COMPLETED or not job.file:
        raise ApiError(
            404,
            "Video is not ready yet, use GET /v1/videos/{video_id} to check status.",
            code="not_ready",
        )
    return job.file


def _range(header: str | None, size: int) -> tuple[int, int]:
    """First byte and the one after the last. What is not one plain range gets the whole file, as
    RFC 9110 allows.
    """
    match = RANGE.fullmatch(header.strip()) if header else None
    if not match or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    if start >= end:
        raise ApiError(
            416,
            f"The file has {size} bytes.",
            code="invalid_range",
            headers={"content-range": f"bytes */{size}"},
        )
    return start, end
