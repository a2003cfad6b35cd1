"""The operations of the Videos API, independent of HTTP: every route is a thin layer over them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from typing import Any, Literal

from obstore.exceptions import BaseError as StoreError

from pipeline.families import ModelInfo
from pipeline.families.inputs import INPUT_VIDEO
from proxy.creation import create_params, requested
from proxy.errors import (
    ApiError,
    invalid,
    not_ready,
    video_not_found,
)
from proxy.fields import CreateVideo
from proxy.images import ImageOptions, image_settings, one_each
from proxy.input_videos import VIDEO, video_source
from proxy.input_videos import refused as refused_video
from proxy.jobs.model import COMPLETED, FAILED, Job, NewJob, Operation
from proxy.model_names import ModelNames
from proxy.remixing import keep
from proxy.request_files import (
    FileReader,
    NamedFiles,
    RequestFiles,
    keep_files,
    set_video,
    store_files,
)
from proxy.service import Service
from proxy.settings import ProxySettings, RequestSettings
from proxy.spellings import Body, understood
from proxy.tracing import TRACEPARENT, carrier
from proxy.uploads import Spool, Upload
from proxy.video_store import VARIANTS

logger = logging.getLogger(__name__)

# Of diffusers' WanVideoToVideoPipeline.
DEFAULT_STRENGTH = 0.8
IDEMPOTENCY_KEY, MAX_KEY_CHARACTERS = "Idempotency-Key", 255


@dataclass(frozen=True)
class Content:
    """One file of a finished video. ``read(start, end)`` yields its bytes, ``end`` excluded."""

    name: str
    media_type: str
    size: int
    etag: str
    read: Callable[[int, int], AsyncIterator[bytes]]


class Videos:
    """The videos of all owners: create, remix, get, list, cancel, delete, open their files.

    Methods raise ``ApiError``. A video of another owner counts as not found.
    """

    def __init__(self, service: Service, settings: ProxySettings, files: FileReader):
        self._service = service
        self._settings = settings
        self.names = ModelNames(service.tritons, settings.served_model_name)
        self._files = files

    def model(self, name: Any) -> ModelInfo:
        """Return the model that `ModelNames.find` finds, with the limits of this server too."""
        return self.names.find(name).bounded(self._settings)

    async def create(self, owner: str, body: dict[str, Any], idempotency_key: str | None) -> Job:
        """Queue a video for the body of a create request.

        An idempotency key that was used before returns the job of that request.
        """
        return await self._create(owner, understood(body), idempotency_key)

    async def create_images(
        self, owner: str, body: Body, options: ImageOptions, idempotency_key: str | None
    ) -> list[Job]:
        """Queue the images that `image_request` understood, all or none."""
        new, files = await self._draft(
            owner, body, idempotency_key, image_settings(self._settings, body), options
        )
        jobs: list[Job] = []
        try:
            for each in one_each(new, options.n):
                jobs.append(await self._queue(each, files))  # noqa: PERF401 - kept on an error
        except ApiError:
            for job in jobs:
                await self.delete(owner, job.id)
            raise
        return jobs

    async def of_video(
        self, owner: str, body: dict[str, Any], operation: Operation, idempotency_key: str | None
    ) -> Job:
        """Queue a video that edits or extends the video that the field ``video`` names."""
        source = video_source(body.get(VIDEO))
        asked = understood({name: value for name, value in body.items() if name != VIDEO})
        if operation == "extension" and asked.given("strength"):
            why = "strength: is for edits; an extension continues its video."
            raise invalid("strength", why, "unsupported_value")
        if operation == "edit" and not asked.given("strength"):
            asked.fields["strength"] = DEFAULT_STRENGTH
        if isinstance(source, Upload):
            set_video(asked, source)
            return await self._create(owner, asked, idempotency_key)
        job = await self._source(owner, source)
        if not asked.given("model"):
            asked.fields["model"] = self.names.of(job)
        with closing(Spool()) as spool:
            # A copy: the job does not depend on its source.
            async for piece in self._service.store.all_of(_file_of(job), "video"):
                await spool.write(piece)
            set_video(asked, Upload(spool.file))
            return await self._create(owner, asked, idempotency_key, source_video=job.id)

    async def _source(self, owner: str, video_id: str) -> Job:
        """Return the completed video of an edit or an extension. Raises ``ApiError`` 400 or 404."""
        job = await self._service.jobs.get(owner, video_id)
        if job is None:
            raise video_not_found(video_id, VIDEO)
        if job.status != COMPLETED:
            raise refused_video("only a completed video can be edited or extended")
        return job

    async def _create(
        self,
        owner: str,
        body: Body,
        idempotency_key: str | None,
        *,
        remixed_from: str | None = None,
        source_video: str | None = None,
    ) -> Job:
        new, files = await self._draft(owner, body, idempotency_key, self._settings)
        new = replace(new, remixed_from=remixed_from, source_video=source_video)
        return await self._queue(new, files)

    async def _draft(
        self,
        owner: str,
        body: Body,
        idempotency_key: str | None,
        settings: RequestSettings,
        options: ImageOptions | None = None,
    ) -> tuple[NewJob, RequestFiles]:
        """Return the job that a request asks for, and its files."""
        key = _checked_key(idempotency_key)
        info = self.model(body.fields.get("model"))
        named, request = NamedFiles.of(body, info), requested(body, settings)
        files = await self._files.read(body, named)
        new = NewJob(
            owner=owner,
            model=info.name,
            model_alias=request.model if request.model != info.name else None,
            params=create_params(request, body, info, files, settings),
            metadata=request.metadata,
            body_hash=_fingerprint(request, files, options),
            idempotency_key=key,
            trace=carrier().get(TRACEPARENT),
            image_format=options.output_format if options else None,
            source_frames=files.video.clip.num_frames if files.video else None,
        )
        return new, files

    async def _queue(self, new: NewJob, files: RequestFiles) -> Job:
        job = await self._insert(new, files)
        self._service.metrics.created(job.model)
        self._service.worker.wake()
        return job

    async def get_completed(self, owner: str, video_id: str) -> Job:
        """Return the source of a remix. Raises ``ApiError`` 400 while it is not completed."""
        job = await self.get(owner, video_id)
        if job.status != COMPLETED:
            raise invalid("video_id", "Only a completed video can be remixed.")
        return job

    async def remix(self, source: Job, body: dict[str, Any], idempotency_key: str | None) -> Job:
        """Queue a video like ``source``, but for the fields of ``body`` and a new seed."""
        asked = understood(body)
        if not asked.given("model"):
            asked.fields["model"] = self.names.of(source)
        info = self.names.find(asked.fields["model"])
        with closing(Spool()) as spool:
            try:
                await keep_files(asked, source, info, self._service.store, spool)
            except FileNotFoundError:  # deleted meanwhile
                raise video_not_found(source.id) from None
            video = asked.given(INPUT_VIDEO)
            keep(asked, source, same_model=info.name == source.model, video=video)
            return await self._create(
                source.owner,
                asked,
                idempotency_key,
                remixed_from=source.id,
                source_video=source.source_video if video else None,
            )

    async def get(self, owner: str, video_id: str) -> Job:
        """Return the job of a video. Raises ``ApiError`` 404."""
        job = await self._service.jobs.get(owner, video_id)
        if job is None:
            raise video_not_found(video_id)
        return job

    async def page(
        self, owner: str, limit: int, after: str | None, *, newest_first: bool
    ) -> tuple[list[Job], bool]:
        """Return up to ``limit`` jobs after the id ``after``, and whether there are more."""
        return await self._service.jobs.page(owner, limit, after, newest_first=newest_first)

    async def cancel(self, owner: str, video_id: str) -> Job:
        """Fail a job as cancelled and stop it on the device.

        Raises ``ApiError``: 404, or 400 when the video is finished already.
        """
        job = await self.stop(owner, video_id)
        if job is None:
            await self.get(owner, video_id)
            raise invalid("video_id", "This video is finished already.")
        return job

    async def stop(self, owner: str, video_id: str) -> Job | None:
        """Cancel like `cancel`, but return None when there is no unfinished job of this id."""
        job = await self._service.jobs.cancel(owner, video_id)
        if job:
            self._service.worker.stop_job(job)
            self._service.metrics.failed(job, "cancelled")
        return job

    async def delete(self, owner: str, video_id: str) -> Job:
        """Remove a video and its files; one in progress stops on the device within a step."""
        job = await self._service.jobs.delete(owner, video_id)
        if job is None:
            raise video_not_found(video_id)
        self._service.worker.stop_job(job)
        await self._remove(*job.files)
        return job

    async def of_anyone(self, video_id: str) -> Job:
        """Return the job of a video of any owner, for a signed link. Raises ``ApiError`` 404."""
        found = await self._service.jobs.current([video_id])
        if not found:
            raise video_not_found(video_id)
        return found[0]

    async def open_content(self, job: Job, variant: str) -> Content:
        """Open the MP4 of a completed video, or its thumbnail or spritesheet.

        Raises ``ApiError``: 404 while there is no such file, 400 when the video failed.
        """
        if variant not in (allowed := job.variants):
            raise invalid("variant", f"variant: should be one of {', '.join(allowed)}.")
        kind, store = VARIANTS[variant], self._service.store
        key = _file_of(job)
        try:
            size, etag = await store.size_and_etag(key, variant)
        except FileNotFoundError:
            raise video_not_found(job.id) from None

        async def read(start: int, end: int) -> AsyncIterator[bytes]:
            async for piece in store.read(key, variant, start, end):
                yield piece
                self._service.metrics.sent(len(piece))

        return Content(job.id + kind.suffix, kind.media_type, size, etag, read)

    async def presigned(self, job: Job, variant: str, method: Literal["GET", "HEAD"]) -> str | None:
        """Return a URL of the bucket for a file of a completed video, if the operator wants that.

        Raises ``ApiError`` like `open_content`, which serves the file where the result is None.
        """
        if not self._settings.presigned_links or variant not in job.variants:
            return None
        return await self._service.store.presigned(_file_of(job), variant, method)

    async def last_state(self, job: Job) -> Job:
        """Wait until a job is finished or deleted, or the server stops; return its last state."""
        async with aclosing(self._service.updates.follow(job)) as jobs:
            async for latest in jobs:
                job = latest
        return job

    async def _insert(self, new: NewJob, files: RequestFiles) -> Job:
        """Store the files, then the job, so that no worker finds a job without its files."""
        keys = await store_files(self._service.store, files)
        job = None
        try:
            job = await self._service.jobs.create(replace(new, **keys))
            return job
        finally:
            # The job was refused, or it is that of an earlier request with the same idempotency
            # key, which has its own files.
            await self._remove(*set(keys.values()).difference(job.files if job else ()))

    async def _remove(self, *keys: str | None) -> None:
        """Remove files that no job names any more. Should that fail, the sweeper finds them."""
        try:
            await self._service.store.delete(*keys)
        except (StoreError, OSError) as error:
            logger.warning("files of a deleted video were not removed: %s", type(error).__name__)


def _checked_key(key: str | None) -> str | None:
    """Refuse an idempotency key that is too long: cut off, two keys could become the same."""
    if key and len(key) > MAX_KEY_CHARACTERS:
        allowed = f"it has {len(key)} characters; up to {MAX_KEY_CHARACTERS} are accepted."
        raise invalid(IDEMPOTENCY_KEY, f"{IDEMPOTENCY_KEY}: {allowed}")
    return key or None


def _file_of(job: Job) -> str:
    """Return the key of the job's files. Raises ``ApiError`` while it has none."""
    if job.status == FAILED:
        message = job.error_message or "The video failed."
        raise ApiError(400, message, code=job.error_code, param="video_id")
    if job.status != COMPLETED or not job.file:
        raise not_ready()
    return job.file


def _fingerprint(request: CreateVideo, files: RequestFiles, options: ImageOptions | None) -> str:
    """Hash a request: the same for the same fields in any encoding, under any of their names, and
    for the same files in any form.
    """
    values = {key: str(value) for key, value in request if value is not None}
    if options:
        values |= {"n": str(options.n), "output_format": options.output_format}
    values |= files.digests()
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
