"""``/v1/videos``: create, list, retrieve, delete, cancel, remix."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse
from obstore.exceptions import BaseError as StoreError

from pipeline.families import ModelInfo
from proxy.body import read_body
from proxy.context import Ctx, Owner
from proxy.creation import (
    BESIDE,
    CreateVideo,
    RemixVideo,
    asked_for,
    create_params,
    named_picture,
    with_extra_params,
)
from proxy.errors import ApiError, invalid, store_unavailable, video_not_found
from proxy.jobs.model import COMPLETED, FAILED, Job, NewJob
from proxy.openapi import body_of, error_answers
from proxy.rate_limit import limited
from proxy.reference_images.parsing import FIELD
from proxy.reference_images.reading import ReferencePicture
from proxy.schema import Video, VideoDeleted, VideoList
from proxy.service import Service
from proxy.tracing import PARENT, carrier
from proxy.uploads import Upload

logger = logging.getLogger(__name__)

QUEUEING = error_answers(400, 401, 404, 408, 409, 413, 415, 429, 503, 507)
MAX_LIMIT, DEFAULT_LIMIT = 100, 20
POLL_AFTER_MS = "1000"
IDEMPOTENCY_KEY, MAX_KEY_CHARACTERS = "Idempotency-Key", 255

router = APIRouter(prefix="/v1/videos", tags=["videos"], responses=error_answers(401))
Limited = Depends(limited)
VideoId = Annotated[str, Path(description="The video's id.")]


@router.post(
    "",
    response_model=Video,
    dependencies=[Limited],
    responses=QUEUEING,
    openapi_extra=body_of(CreateVideo, BESIDE),
)
async def create(request: Request, owner: Owner, ctx: Ctx) -> Video:
    """Queue a video."""
    return Video.of(await queue_video(request, ctx, owner, await read_body(request)))


@router.post(
    "/{video_id}/remix",
    response_model=Video,
    dependencies=[Limited],
    responses=QUEUEING,
    openapi_extra=body_of(RemixVideo),
)
async def remix(video_id: VideoId, request: Request, owner: Owner, ctx: Ctx) -> Video:
    """Queue a video like a finished one, from another prompt and the same picture, if there was
    one.
    """
    source = await find(video_id, owner, ctx)
    if source.status != COMPLETED:
        raise invalid("video_id", "Only a completed video can be remixed.")
    body = await read_body(request)
    if body.keys() - {"prompt"}:
        raise invalid(
            min(body.keys() - {"prompt"}), "A remix takes a prompt only.", "unknown_parameter"
        )
    kept = source.params.model_dump(exclude={"prompt", "seed"})
    body = {**kept, **body, "model": source.model}
    if source.picture:
        try:
            body[FIELD] = Upload.of(await ctx.files.picture(source.picture))
        except FileNotFoundError:  # deleted meanwhile
            raise video_not_found(video_id) from None
    return Video.of(await queue_video(request, ctx, owner, body, remixed_from=source.id))


@router.get("", response_model=VideoList, responses=error_answers(400))
async def list_videos(
    owner: Owner,
    ctx: Ctx,
    limit: Annotated[
        int, Query(ge=0, le=MAX_LIMIT, description="How many at most.")
    ] = DEFAULT_LIMIT,
    order: Annotated[
        Literal["asc", "desc"], Query(description="The oldest or the newest first.")
    ] = "desc",
    after: Annotated[
        str | None, Query(description="The id of the last one of the page before.")
    ] = None,
) -> VideoList:
    """A page of the key's videos, the newest first."""
    jobs, more = await ctx.jobs.page(owner, limit, after, newest_first=order == "desc")
    data = [Video.of(job) for job in jobs]
    return VideoList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=more,
    )


@router.get("/{video_id}", response_model=Video, responses=error_answers(404))
async def retrieve(video_id: VideoId, owner: Owner, ctx: Ctx) -> Any:
    """A video's state. While it is not finished, a header says when to ask again."""
    job = await find(video_id, owner, ctx)
    headers = {} if job.status in (COMPLETED, FAILED) else {"openai-poll-after-ms": POLL_AFTER_MS}
    return JSONResponse(Video.of(job).model_dump(), headers=headers)


@router.delete("/{video_id}", response_model=VideoDeleted, responses=error_answers(404))
async def delete(video_id: VideoId, owner: Owner, ctx: Ctx) -> VideoDeleted:
    """Remove a video; one that is being made stops on the device within a step."""
    job = await ctx.jobs.delete(owner, video_id)
    if job is None:
        raise video_not_found(video_id)
    ctx.worker.stop_job(job)
    await _remove(ctx, *job.files)
    return VideoDeleted(id=job.id)


@router.post("/{video_id}/cancel", response_model=Video, responses=error_answers(400, 404))
async def cancel(video_id: VideoId, owner: Owner, ctx: Ctx) -> Video:
    """Stop making a video and keep its record: failed, code ``cancelled``."""
    job = await stop_video(ctx, owner, video_id)
    if job is None:
        await find(video_id, owner, ctx)
        raise invalid("video_id", "This video is finished already.")
    return Video.of(job)


async def stop_video(ctx: Service, owner: str, video_id: str) -> Job | None:
    """Fail a job as cancelled and free the device; ``None`` when there is none that is not
    finished.
    """
    job = await ctx.jobs.cancel(owner, video_id)
    if job:
        ctx.worker.stop_job(job)
        ctx.metrics.failed(job, "cancelled")
    return job


async def find(video_id: VideoId, owner: Owner, ctx: Ctx) -> Job:
    """A dependency: the key's video of this id."""
    job = await ctx.jobs.get(owner, video_id)
    if job is None:
        raise video_not_found(video_id)
    return job


async def queue_video(
    request: Request,
    ctx: Service,
    owner: str,
    body: dict[str, Any],
    *,
    remixed_from: str | None = None,
) -> Job:
    """A job for the body of a create request."""
    key = _idempotency_key(request)
    body = with_extra_params(body)
    info = _model(ctx, body.get("model")).bounded(request.app.state.settings)
    reference, asked = named_picture(body, info), asked_for(body)
    picture = await request.app.state.pictures.read(reference) if reference else None
    params = create_params(asked, info, picture.size if picture else None)
    new = NewJob(
        owner=owner,
        model=info.name,
        params=params,
        body_hash=_fingerprint(body, picture),
        idempotency_key=key,
        remixed_from=remixed_from,
        trace=carrier().get(PARENT),
    )
    job = await _created(ctx, new, picture)
    ctx.metrics.created(job.model)
    ctx.worker.wake()
    return job


async def _created(ctx: Service, new: NewJob, picture: ReferencePicture | None) -> Job:
    """The job; its picture is kept first, so that no worker finds it without. What no job names
    is swept one day.
    """
    if picture is None:
        return await ctx.jobs.create(new)
    try:
        kept = await ctx.files.put_picture(picture.data)
    except OSError as error:  # of a folder; a bucket's errors have their answer in `proxy.errors`
        logger.warning("a reference picture cannot be stored: %s", type(error).__name__)
        raise store_unavailable() from None
    job = None
    try:
        job = await ctx.jobs.create(replace(new, picture=kept))
        return job
    finally:
        # Refused, or the job of an earlier request with the same idempotency key, which has its
        # own.
        if job is None or job.picture != kept:
            await _remove(ctx, kept)


async def _remove(ctx: Service, *keys: str | None) -> None:
    """Remove files whose job is gone for its owner. Should that fail, the sweeper finds them."""
    try:
        await ctx.files.delete(*keys)
    except (StoreError, OSError) as error:
        logger.warning("files of a deleted video could not be removed: %s", type(error).__name__)


def _idempotency_key(request: Request) -> str | None:
    """Raises ``ApiError`` 400 for a key that is too long. Cut off, two could be the same."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key and len(key) > MAX_KEY_CHARACTERS:
        sentence = f"{IDEMPOTENCY_KEY}: it has {len(key)} characters; up to {MAX_KEY_CHARACTERS} are accepted."
        raise invalid(IDEMPOTENCY_KEY, sentence)
    return key or None


def _model(ctx: Service, name: Any) -> ModelInfo:
    """The model that was asked for. Never another one instead of it."""
    models = ctx.tritons.models
    if not models:
        raise ApiError(
            503, "No inference server is up yet; try again soon.", code="backend_unavailable",
            headers={"retry-after": "5"},
        )  # fmt: skip
    if name is None:
        return next(iter(models.values()))
    if not isinstance(name, str):
        raise invalid("model", "model: should be text.", "invalid_type")
    if name not in models:
        known = " or ".join(map(repr, models))
        raise ApiError(
            404, f"The model {name[:80]!r} does not exist; this server has {known}.",
            code="model_not_found", param="model",
        )  # fmt: skip
    return models[name]


def _fingerprint(body: dict[str, Any], picture: ReferencePicture | None) -> str:
    """The same fields in any encoding have the same fingerprint, and the same picture in any
    form.
    """
    shown = {key: str(value) for key, value in body.items() if key != FIELD}
    if picture:
        shown[FIELD] = picture.digest
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
