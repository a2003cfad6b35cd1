"""Signed links for clients that send no key: ``<video src>``, ``EventSource``."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from pipeline.errors import InputError
from pipeline.system.private import kept_secret
from proxy.errors import ApiError
from proxy.jobs.model import COMPLETED, FINISHED, Job
from proxy.settings import ProxySettings

logger = logging.getLogger(__name__)

LINK_KEY_FILE = "link-key"
MIN_KEY_CHARACTERS = 32
HOST = re.compile(r"[A-Za-z0-9._-]{1,255}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")

Resource = Literal["content", "events"]
"""What a link opens; it is part of the signature."""


class Links:
    """Signs links with ``key``, which end after ``ttl_s`` seconds at most, and checks them.

    Without a key or a time there are no links. ``public_url`` replaces the address by which a
    client reached the server. ``clock`` returns unix seconds.
    """

    def __init__(
        self,
        key: bytes | None,
        ttl_s: int,
        public_url: str | None = None,
        clock: Callable[[], float] = time.time,
    ):
        self._key = key if ttl_s else None
        self._ttl_s = ttl_s
        self._public_url = public_url
        self._clock = clock

    def base(self, scheme: str, host: str) -> str | None:
        """Return the address that links begin with; None where there are no links."""
        own = f"{scheme}://{host}" if HOST.fullmatch(host) else None
        return (self._public_url or own) if self._key else None

    def url(self, job: Job, scheme: str, host: str, variant: str | None = None) -> str | None:
        """Return a link to a file of a completed job, by default the MP4; None without links.

        It is the same for half of its time, so that browsers and caches may keep the video.
        """
        if job.status != COMPLETED:
            return None
        return self._link(job, "content", scheme, host, {"variant": variant} if variant else {})

    def events_url(self, job: Job, scheme: str, host: str) -> str | None:
        """Return a link to the events of an unfinished job; None without links."""
        if job.status in FINISHED:
            return None
        return self._link(job, "events", scheme, host, {})

    def _link(
        self, job: Job, resource: Resource, scheme: str, host: str, query: dict[str, str]
    ) -> str | None:
        base = self.base(scheme, host)
        if self._key is None or base is None:
            return None
        half = max(1, self._ttl_s // 2)
        expires = (int(self._clock()) // half + 2) * half
        signature = self._signature(self._key, job.id, expires, resource)
        query = {**query, "expires": str(expires), "signature": signature}
        return f"{base.rstrip('/')}/v1/videos/{job.id}/{resource}?{urlencode(query)}"

    def check(self, video_id: str, expires: int, signature: str, resource: Resource) -> None:
        """Raise ``ApiError`` 403 for a link that is not valid, or no more."""
        now, key = self._clock(), self._key
        good = key is not None and hmac.compare_digest(
            self._signature(key, video_id, expires, resource).encode(), signature.encode()
        )
        if not good or expires <= now:
            raise ApiError(
                HTTPStatus.FORBIDDEN,
                "This link is not valid or has expired; GET /v1/videos/{video_id} has a new one.",
                code="invalid_link",
                headers={"x-should-retry": "false"},
            )

    @staticmethod
    def _signature(key: bytes, video_id: str, expires: int, resource: Resource) -> str:
        signed = hmac.digest(key, f"{resource}\n{video_id}\n{expires}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(signed).rstrip(b"=").decode()


def link_key(settings: ProxySettings) -> bytes | None:
    """Return the key of links: that of a file, or one that is made once in the data folder.

    Return None where there is no data folder, since another process would have another key.
    Raises ``InputError``.
    """
    if settings.link_key_file:
        return _key_of(settings.link_key_file)
    folder = settings.data_folder
    if settings.link_ttl_s == 0 or folder is None:
        return None
    try:
        kept_secret(folder / LINK_KEY_FILE, secrets.token_urlsafe(MIN_KEY_CHARACTERS))
    except OSError as error:
        logger.warning("videos have no url: a key cannot be stored: %s", error.strerror)
        return None
    return _key_of(folder / LINK_KEY_FILE)


def _key_of(path: Path) -> bytes:
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise InputError("link_key_file", f"cannot be read: {error}") from None
    if len(key) < MIN_KEY_CHARACTERS:
        why = f"{path} has {len(key)} characters; at least {MIN_KEY_CHARACTERS} are required"
        raise InputError("link_key_file", why)
    return key
