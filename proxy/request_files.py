"""The files of a request: two images and a video, from its fields to the store."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass

from obstore.exceptions import BaseError as StoreError

from pipeline.errors import InputError
from pipeline.families import ModelInfo
from pipeline.families.inputs import INPUT_VIDEO
from proxy.errors import Code, invalid, store_unavailable
from proxy.input_videos import VIDEO, InputVideo, InputVideos, pieces
from proxy.jobs.model import Job
from proxy.reference_images.parsing import INPUT_REFERENCE, LAST_FRAME, ImageSource, parse
from proxy.reference_images.reading import ReferenceImage, ReferenceImages
from proxy.spellings import Body
from proxy.uploads import Spool, Upload
from proxy.video_store import VideoStore

logger = logging.getLogger(__name__)

FIELDS = (INPUT_REFERENCE, LAST_FRAME, INPUT_VIDEO)


@dataclass(frozen=True)
class NamedFiles:
    """What a request names, neither fetched nor decoded yet."""

    image: ImageSource | None
    last_frame: ImageSource | None
    video: Upload | None

    @classmethod
    def of(cls, body: Body, info: ModelInfo) -> NamedFiles:
        """Return the files that the fields name. Raises ``ApiError`` 400, also for those that the
        model does not take.
        """
        _check(body, info)
        image, last_frame = (
            parse(body.fields[field], body.name(field)) if body.given(field) else None
            for field in (INPUT_REFERENCE, LAST_FRAME)
        )
        return cls(image, last_frame, body.fields.get(INPUT_VIDEO))


@dataclass(frozen=True)
class RequestFiles:
    """The files of a request, decoded once."""

    image: ReferenceImage | None = None
    last_frame: ReferenceImage | None = None
    video: InputVideo | None = None

    def digests(self) -> dict[str, str]:
        """Return a hash of each file, by its field."""
        files = zip(FIELDS, (self.image, self.last_frame, self.video), strict=True)
        return {field: file.digest for field, file in files if file}


class FileReader:
    """Reads the files of requests, a few at a time."""

    def __init__(self, images: ReferenceImages):
        self._images = images
        self._videos = InputVideos()

    async def read(self, body: Body, named: NamedFiles) -> RequestFiles:
        """Fetch and decode the files. Raises ``ApiError``."""
        image = await self._image(body, INPUT_REFERENCE, named.image)
        last_frame = await self._image(body, LAST_FRAME, named.last_frame)
        video = await self._videos.read(named.video) if named.video else None
        return RequestFiles(image, last_frame, video)

    async def _image(
        self, body: Body, field: str, source: ImageSource | None
    ) -> ReferenceImage | None:
        return await self._images.read(source, body.name(field)) if source else None


async def store_files(store: VideoStore, files: RequestFiles) -> dict[str, str]:
    """Store the files, all or none; return their keys by the fields of a job.

    Raises ``ApiError`` 503 or 507, or an error of the store.
    """
    keys: dict[str, str] = {}
    whole = False
    try:
        for name, image in (("image", files.image), ("last_frame", files.last_frame)):
            if image:
                keys[name] = await store.put_input(image.data, len(image.data))
        if video := files.video:
            keys["input_video"] = await store.put_input(pieces(video.file), video.size)
        whole = True
    except OSError as error:  # of a folder; `proxy.errors` handles a bucket's errors
        logger.warning("a file of a request cannot be stored: %s", type(error).__name__)
        raise store_unavailable() from None
    finally:
        if not whole:
            with suppress(StoreError, OSError):  # the sweeper finds them
                await store.delete(*keys.values())
    return keys


async def keep_files(
    body: Body, source: Job, info: ModelInfo, store: VideoStore, spool: Spool
) -> None:
    """Add the files of ``source`` that the request does not replace, where the model takes them.

    ``spool`` gets the video. Raises ``FileNotFoundError`` if the source was deleted meanwhile.
    """
    for field, key, taken in (
        (INPUT_REFERENCE, source.image, info.takes_image),
        (LAST_FRAME, source.last_frame, info.last_frame != "refused"),
    ):
        if key and taken and not body.given(field):
            body.fields[field] = Upload.of(await store.input(key))
    if source.input_video and (info.edits if source.operation == "edit" else info.extends):
        async for piece in store.input_pieces(source.input_video):
            await spool.write(piece)
        set_video(body, Upload(spool.file))


def set_video(body: Body, video: Upload) -> None:
    """Make ``video`` the input video of a request."""
    body.fields[INPUT_VIDEO], body.sent[INPUT_VIDEO] = video, VIDEO


def api_message(error: InputError, body: Body) -> str:
    """Return the text of an error of the pipeline with the names that the client sent."""
    text = str(error).removeprefix(error.field)
    return (body.name(error.field) + text).replace(INPUT_VIDEO, VIDEO)


def _check(body: Body, info: ModelInfo) -> None:
    """Raise ``ApiError`` 400 for files that the model requires or does not take."""
    try:
        info.check_inputs(
            1.0 if body.given("strength") else None,
            image=body.given(INPUT_REFERENCE),
            last_frame=body.given(LAST_FRAME),
            video=body.given(INPUT_VIDEO),
        )
    except InputError as error:
        given = body.given(error.field)
        code: Code = "unsupported_value" if given else "missing_required_parameter"
        raise invalid(body.name(error.field), f"{api_message(error, body)}.", code) from None
