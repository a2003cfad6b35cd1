"""``/v1/videos/{id}/content``: a video's file or one of its previews, whole or in ranges."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from proxy.context import Ctx, ReadableJob
from proxy.file_response import file_response
from proxy.openapi import error_answers
from proxy.video_store import VARIANTS

MEDIA_TYPES: dict[str, Any] = {variant.media_type: {} for variant in VARIANTS.values()}
FILE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": MEDIA_TYPES},
    206: {"description": "The range that was asked for", "content": MEDIA_TYPES},
    304: {"description": "Unchanged"},
    307: {"description": "The file in the bucket, with --presigned-links"},
}
VariantName = Annotated[
    str, Query(description="Which file of the video.", json_schema_extra={"enum": list(VARIANTS)})
]

router = APIRouter(
    prefix="/v1/videos", tags=["videos"], responses=error_answers(400, 401, 403, 404, 416)
)


@router.head("/{video_id}/content", include_in_schema=False)
@router.get("/{video_id}/content", response_class=Response, responses=FILE_ANSWERS)
async def content(
    job: ReadableJob, request: Request, ctx: Ctx, variant: VariantName = "video"
) -> Response:
    """The finished MP4, or its thumbnail or spritesheet as WebP; by a key or a signed link."""
    if "signature" in request.query_params:
        method = "HEAD" if request.method == "HEAD" else "GET"
        if url := await ctx.videos.presigned(job, variant, method):
            return RedirectResponse(url, headers={"cache-control": "no-store"})
    return file_response(request, await ctx.videos.open_content(job, variant))
