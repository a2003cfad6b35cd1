"""Input videos, which a request edits or extends: what names them, and what they are."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipeline.families import Clip
from pipeline.families.inputs import MAX_VIDEO_BYTES
from pipeline.system.own_modules import command
from proxy.errors import ApiError, Code, invalid
from proxy.intake import server_busy
from proxy.json_body import parse_json
from proxy.uploads import Upload

logger = logging.getLogger(__name__)

VIDEO = "video"
"""The field of a request that holds the video."""

PROBES_AT_A_TIME = 2  # each holds a file of up to `MAX_VIDEO_BYTES`, and a processor
MAX_WAITING = 32
PROBE_S = 90.0
PIECE_BYTES = 1 << 20
# Of the server's variables; the others may hold keys and passwords.
VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
# A thread of each processor takes address space.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class InputVideo:
    """A video that was decoded once. ``digest`` hashes its bytes."""

    file: BinaryIO
    size: int
    clip: Clip
    digest: str


class InputVideos:
    """Decodes videos in a process for each, a few at a time."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(PROBES_AT_A_TIME)
        self._waiting = 0

    async def read(self, upload: Upload) -> InputVideo:
        """Describe a video. Raises ``ApiError``: 400 for one that is refused, 503 if too many wait.

        Its whole file is decoded, since a container may tell anything about its frames.
        """
        if self._waiting >= MAX_WAITING:
            raise server_busy("The server is reading too many videos; try again soon.")
        self._waiting += 1
        try:
            async with self._slots:
                size = await asyncio.to_thread(upload.file.seek, 0, os.SEEK_END)
                if size > MAX_VIDEO_BYTES:
                    raise refused(f"a video has at most {MAX_VIDEO_BYTES} bytes")
                clip = await _clip(upload.file)
                digest = await asyncio.to_thread(_digest, upload.file)
        finally:
            self._waiting -= 1
        return InputVideo(upload.file, size, clip, digest)


def video_source(value: Any) -> Upload | str:
    """Return the file in the field ``video``, or the id of a video. Raises ``ApiError`` 400."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        with suppress(ValueError):
            value = parse_json(value)
    if value is None:
        why = "required; send a video file, or the id of a video as {id}"
        raise refused(why, "missing_required_parameter")
    if isinstance(value, Upload):
        return value
    if not isinstance(value, dict):
        raise refused("should be a video file, or an object with the id of a video", "invalid_type")
    if unknown := value.keys() - {"id"}:
        raise refused(f"the key {min(unknown)[:80]!r} is not understood", "unknown_parameter")
    if not isinstance(value.get("id"), str):
        raise refused("id should be the id of a video", "invalid_type")
    return value["id"]


async def pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield the content of a file from its start."""
    await asyncio.to_thread(file.seek, 0)
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece


def refused(why: str, code: Code = "invalid_value") -> ApiError:
    return invalid(VIDEO, f"{VIDEO}: {why}.", code)


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


async def _clip(file: BinaryIO) -> Clip:
    """Let `proxy.video_probe` describe a file. Raises ``ApiError`` 400."""
    await asyncio.to_thread(file.seek, 0)
    process = await asyncio.create_subprocess_exec(
        *command("proxy.video_probe"),
        stdin=file,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(os.environ),
    )
    try:
        async with asyncio.timeout(PROBE_S):
            written, _ = await process.communicate()
        answer = json.loads(written)
    except TimeoutError:
        raise refused("decoding takes too long; send a smaller video") from None
    except ValueError:
        # The decoder used up its memory or time, or it crashed; or this program has a fault.
        logger.warning("the decoding of a video ended with exit code %s", process.returncode)
        raise refused("the video cannot be decoded within this server's limits") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if "refused" in answer:
        raise refused(answer["refused"])
    return Clip(**answer)


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: variables[name] for name in VARIABLES if name in variables} | ONE_THREAD
